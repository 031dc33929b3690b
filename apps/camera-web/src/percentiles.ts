/** Quantiles as edge_unet/core/report.py defines them: always a sample that occurred. */

import { roundHalfEven } from "./rounding";

/** Nearest rank: the smallest sample that at least `percent` % of the samples do not exceed. */
export function percentile(samples: readonly number[], percent: number): number {
  if (samples.length === 0) throw new Error("a percentile of no samples does not exist");
  const rank = Math.max(1, Math.ceil((samples.length * percent) / 100));
  return [...samples].sort((a, b) => a - b)[rank - 1];
}

/** Mean, rounded to a whole number. */
export function meanOf(samples: readonly number[]): number {
  return roundHalfEven(samples.reduce((sum, value) => sum + value, 0) / samples.length);
}

/** The last `size` samples of a stream, and how often they came. */
export class Window {
  private readonly samples: number[] = [];
  private readonly times: number[] = [];

  constructor(private readonly size: number) {}

  add(sample: number, now: number): void {
    this.samples.push(sample);
    this.times.push(now);
    if (this.samples.length > this.size) {
      this.samples.shift();
      this.times.shift();
    }
  }

  clear(): void {
    this.samples.length = this.times.length = 0;
  }

  /** null: nothing measured yet. */
  percentile(percent: number): number | null {
    return this.samples.length ? percentile(this.samples, percent) : null;
  }

  /** Samples per second over the window; null before there are two. */
  rate(): number | null {
    const count = this.times.length;
    if (count < 2) return null;
    const span = this.times[count - 1] - this.times[0];
    return span > 0 ? ((count - 1) * 1000) / span : null;
  }
}
