/**
 * The result file in the toolkit's schema (docs/report.schema.json, version 2): a phone's figures enter the same
 * report as a board's. null is what nobody measured, never 0.
 */

import { bestOfEach, type Trial } from "./choose";
import type { DeviceFacts } from "./device";
import { meanOf, percentile } from "./percentiles";
import type { BundleFacts, Started, Timings } from "./protocol";
import type { Samples, Schedule } from "./timing";

const STAGES = ["preprocess", "infer", "postprocess", "draw"] as const;
const HIDDEN = "the page was hidden while it measured: browsers slow hidden pages down";

export interface Run {
  schedule: Schedule;
  timings: Timings;
  created: Date;
  /** Whether the page lost the screen on the way. */
  hidden: boolean;
}

/** The whole report.json. */
export function buildReport(started: Started, device: DeviceFacts, run: Run): object {
  const { timings, schedule } = run;
  const trials = bestOfEach(started.trials);
  const runtime = Object.fromEntries(trials.slice(0, 1).map((t) => ["onnxruntime-web", t.runtime.split(" ")[1]]));
  return {
    schema_version: 2,
    title: `${started.bundles[0].name} in a browser`,
    created: run.created.toISOString(),
    environment: {
      device: "browser",
      os: device.os,
      machine: device.machine,
      cores_used: device.cores,
      threads: started.threads,
      power_mode: device.power,
      packages: { ...runtime, ...device.browser },
      warnings: warningsOf(device, run),
    },
    schedule,
    burst_order: timings.model.burst_order.map((key) => labelOf(started, key)),
    measurements: [
      ...timings.model.samples.map((found) => measurement(started, found, "model")),
      ...timings.endToEnd.samples.map((found) => measurement(started, found, "end_to_end")),
    ],
    not_measured: refusedOf(started, trials),
    notes: notesOf(started, device, timings),
  };
}

function warningsOf(device: DeviceFacts, run: Run): string[] {
  const single = device.isolated ? [] : ["the page is not cross-origin isolated: one thread"];
  return run.hidden ? [...single, HIDDEN] : single;
}

function labelOf(started: Started, key: string): string {
  const { bundle, trial } = subjectOf(started, key);
  return `${bundle.name} ${bundle.target} ${trial.precision}`;
}

function subjectOf(started: Started, key: string): { bundle: BundleFacts; trial: Trial } {
  const trial = started.trials.find((one) => one.key === key)!;
  return { trial, bundle: started.bundles.find(({ precision }) => precision === trial.precision)! };
}

function measurement(started: Started, found: Samples, scope: "model" | "end_to_end"): object {
  const { bundle, trial } = subjectOf(started, found.label);
  return {
    target: bundle.target,
    precision: trial.precision,
    runtime: trial.runtime,
    bundle: bundle.name,
    artifact_sha256: bundle.sha256,
    on_device: true,
    scope,
    warmup_runs: found.warmup_runs,
    samples_ns: found.total_ns,
    stage_ns: scope === "model" ? null : stagesOf(found),
    p50_ns: percentile(found.total_ns, 50),
    p90_ns: percentile(found.total_ns, 90),
    p99_ns: percentile(found.total_ns, 99),
    mean_ns: meanOf(found.total_ns),
  };
}

function stagesOf(found: Samples): object {
  return Object.fromEntries(STAGES.map((name, i) => {
    const column = found.stage_ns.map((stages) => stages[i]);
    return [name, { p50_ns: percentile(column, 50), p90_ns: percentile(column, 90) }];
  }));
}

/** Precisions that no provider may run here, and why. */
function refusedOf(started: Started, measured: readonly Trial[]): object[] {
  return started.bundles
    .filter(({ precision }) => !measured.some((trial) => trial.precision === precision))
    .map(({ precision, target }) => ({
      target, precision,
      reason: started.trials.find((t) => t.precision === precision)?.refused ?? "no provider of this browser runs it",
    }));
}

function notesOf(started: Started, device: DeviceFacts, { frame }: Timings): string[] {
  const percent = (share: number | null) => (share === null ? "not checked" : `${(share * 100).toFixed(3)} %`);
  const tried = started.trials.map((t) =>
    t.refused === null
      ? `${t.key}: worst golden frame agrees in ${percent(t.golden)} of its pixels.`
      : `${t.key}: refused, ${t.refused}.`,
  );
  return [
    `Browser: ${device.userAgent}`,
    ...(device.model ? [`Device as the browser names it: ${device.model}.`] : []),
    `hardwareConcurrency ${device.cores ?? "not told"}, crossOriginIsolated ${device.isolated}. `
      + "A browser tells neither chip, clocks nor heat.",
    `End to end is ${frame.width}x${frame.height} RGBA to a coloured mask, in a worker.`,
    ...tried,
  ];
}
