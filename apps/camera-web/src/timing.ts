/** The toolkit's timing protocol (edge_unet/measure/latency.py): warm-up, then bursts by turns, every sample kept. */

/** Field names as in the result schema. */
export interface Schedule {
  warmup_runs: number;
  warmup_ns: number;
  runs: number;
  limit_ns: number;
  burst: number;
  discarded: number;
}

export const FULL: Schedule = {
  warmup_runs: 10, warmup_ns: 1e9, runs: 1024, limit_ns: 60e9, burst: 5, discarded: 1,
};
export const RAPID: Schedule = { ...FULL, runs: 64, limit_ns: 6e9 };
/** A second for each model at the start; the golden frames before it were the warm-up. */
export const TRIAL: Schedule = {
  ...FULL, warmup_runs: 1, warmup_ns: 0, limit_ns: 1e9, burst: 3,
};

/** Something that can be run; `run` gives the milliseconds of each stage, or nothing for a single one. */
export interface Timed {
  label: string;
  run: () => Promise<number[]>;
}

export interface Samples {
  label: string;
  warmup_runs: number;
  total_ns: number[];
  stage_ns: number[][];
  spent_ns: number;
}

export interface Timing {
  samples: Samples[];
  burst_order: string[];
}

/** Milliseconds of the browser's clock as whole nanoseconds. */
export const nanoseconds = (ms: number): number => Math.round(ms * 1e6);

/** Time all subjects by turns; one leaves at `runs` counted runs or after `limit_ns` of its own time. */
export async function measure(
  subjects: readonly Timed[],
  schedule: Schedule,
  progress: (label: string, share: number) => void = () => {},
  clock: () => number = () => performance.now(),
): Promise<Timing> {
  const samples: Samples[] = subjects.map(({ label }) => ({
    label, warmup_runs: 0, total_ns: [], stage_ns: [], spent_ns: 0,
  }));
  for (const [i, subject] of subjects.entries()) samples[i].warmup_runs = await warmUp(subject, schedule, clock);
  const burst_order: string[] = [];
  let active = subjects.map((subject, i) => ({ subject, found: samples[i] }));
  while (active.length) {
    for (const { subject, found } of active) {
      await burst(subject, found, schedule, clock);
      burst_order.push(subject.label);
      progress(subject.label, share(found, schedule));
    }
    active = active.filter(({ found }) => share(found, schedule) < 1);
  }
  return { samples, burst_order };
}

async function warmUp(subject: Timed, schedule: Schedule, clock: () => number): Promise<number> {
  const start = clock();
  let runs = 0;
  while (runs < schedule.warmup_runs || nanoseconds(clock() - start) < schedule.warmup_ns) {
    await subject.run();
    runs++;
  }
  return runs;
}

async function burst(subject: Timed, found: Samples, schedule: Schedule, clock: () => number): Promise<void> {
  const counted = Math.min(schedule.burst, schedule.runs - found.total_ns.length);
  for (let number = 0; number < schedule.discarded + counted; number++) {
    const start = clock();
    const stages = await subject.run();
    const took = nanoseconds(clock() - start);
    found.spent_ns += took;
    if (number >= schedule.discarded) {
      found.total_ns.push(took);
      found.stage_ns.push(stages.map(nanoseconds));
    }
  }
}

function share(found: Samples, schedule: Schedule): number {
  return Math.min(1, Math.max(found.total_ns.length / schedule.runs, found.spent_ns / schedule.limit_ns));
}
