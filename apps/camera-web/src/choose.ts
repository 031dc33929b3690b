/** Which model the page runs: the fastest on this device among those whose golden frames pass. */

import type { Precision } from "./manifest";

export type Provider = "wasm" | "webgpu" | "webnn";

/** Share of pixels of every golden frame that must be as the reference has them: the gate of `edge-unet verify`. */
export const GATE = 0.999;

/** What the start found out about one model on one provider. null: not measured. */
export interface Trial {
  key: string;
  precision: Precision;
  provider: Provider;
  runtime: string;
  /** Agreement of the worst golden frame. */
  golden: number | null;
  p50_ms: number | null;
  p90_ms: number | null;
  /** Why it is not offered; null where it may run. */
  refused: string | null;
}

/** The passing trial with the smallest median, or null. */
export function choose(trials: readonly Trial[]): Trial | null {
  const passing = trials.filter((trial) => trial.refused === null && trial.p50_ms !== null);
  return passing.reduce<Trial | null>((best, t) => (best && best.p50_ms! <= t.p50_ms! ? best : t), null);
}

/** The fastest passing trial of each precision, in the order int8, fp32. */
export function bestOfEach(trials: readonly Trial[]): Trial[] {
  const precisions: Precision[] = ["int8", "fp32"];
  return precisions.flatMap((precision) => choose(trials.filter((trial) => trial.precision === precision)) ?? []);
}

/** Why a model with this worst golden agreement is refused; null where it passes. */
export function refusal(golden: number): string | null {
  if (golden >= GATE) return null;
  const share = (Math.floor(golden * 1e4) / 1e2).toFixed(2);
  return `a golden frame agrees in ${share} % of its pixels, expected at least ${(GATE * 100).toFixed(1)} %`;
}
