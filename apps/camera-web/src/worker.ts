/** The worker: opens the bundles, tries them, segments frames and runs the benchmark, away from the page's picture. */

import { factsOf, openBundle } from "./bundle";
import { choose, type Trial } from "./choose";
import type { Calls, Frame, FromWorker, Kind, Progress, Segmented, Started, Timings, ToWorker } from "./protocol";
import { firstLine, tryModel, type Model } from "./model";
import { percentile } from "./percentiles";
import { providers } from "./runtime";
import { measure, TRIAL } from "./timing";

const models = new Map<string, Model>();
let current: Model | null = null;
let canvas: OffscreenCanvas | null = null;

function say(text: string, share: number | null = null): void {
  const progress: Progress = { text, share };
  postMessage({ progress } satisfies FromWorker);
}

async function start({ variants, runtimeFiles, large, threads }: Calls["start"]["ask"]): Promise<Started> {
  say("Fetching the model");
  const bundles = await Promise.all(variants.map(openBundle));
  const offered = await providers(large);
  const trials: Trial[] = [];
  models.clear();
  for (const provider of offered) {
    for (const bundle of bundles) {
      say(`Checking ${bundle.manifest.artifact.precision.toUpperCase()} on golden frames (${provider})`);
      const { trial, model } = await tryModel(bundle, provider, runtimeFiles, threads);
      trials.push(trial);
      if (model) models.set(trial.key, model);
    }
  }
  await timeAll(trials);
  const best = choose(trials);
  current = best ? models.get(best.key)! : null;
  return { trials, bundles: bundles.map(factsOf), threads };
}

/** A second for each model that may run, by turns; the figures go into the trials. */
async function timeAll(trials: Trial[]): Promise<void> {
  const subjects = [...models.values()].map((model) => model.modelOnly(model.key));
  say("Timing on this device");
  const timing = await measure(subjects, TRIAL, (label, share) => say(`Timing ${label}`, share));
  for (const found of timing.samples) {
    const trial = trials.find(({ key }) => key === found.label)!;
    trial.p50_ms = percentile(found.total_ns, 50) / 1e6;
    trial.p90_ms = percentile(found.total_ns, 90) / 1e6;
  }
}

function use({ key }: Calls["use"]["ask"]): null {
  const model = models.get(key);
  if (!model) throw new Error(`${key} may not run here`);
  current = model;
  return null;
}

async function segment({ picture }: Calls["segment"]["ask"]): Promise<Segmented> {
  if (!current) throw new Error("no model passed its golden frames");
  const { width, height } = picture;
  if (!canvas || canvas.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(picture, 0, 0);
  picture.close();
  const frame = context.getImageData(0, 0, width, height).data as Uint8ClampedArray<ArrayBuffer>;
  const found = await current.segment(frame, height, width);
  return { width, height, frame, key: current.key, ...found };
}

async function bench({ keys, schedule, frame: given }: Calls["bench"]["ask"]): Promise<Timings> {
  const subjects = keys.map((key) => models.get(key)!);
  const frame = given ?? goldenFrame(subjects[0]);
  const half = (from: number) => (label: string, share: number) => say(`Timing ${label}`, from + share / 2);
  const model = await measure(subjects.map((m) => m.modelOnly(m.key)), schedule, half(0));
  const whole = subjects.map((m) => m.endToEnd(m.key, frame.rgba, frame.height, frame.width));
  const endToEnd = await measure(whole, schedule, half(0.5));
  return { model, endToEnd, frame: { width: frame.width, height: frame.height } };
}

/** Before the first camera frame: the first golden frame as RGBA. */
function goldenFrame(model: Model): Frame {
  const { data, width, height, channels } = model.bundle.golden[0].frame;
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = data[channels * i + (channels === 1 ? 0 : c)];
  }
  return { rgba, width, height };
}

const handlers: { [K in Kind]: (ask: Calls[K]["ask"]) => Promise<Calls[K]["answer"]> | Calls[K]["answer"] } = {
  start, use, segment, bench,
};

addEventListener("message", async ({ data }: MessageEvent<ToWorker>) => {
  const { id, kind, ask } = data;
  try {
    const answer = await (handlers[kind] as (ask: unknown) => unknown)(ask);
    const moved = kind === "segment" ? movable(answer as Segmented) : [];
    postMessage({ id, answer } satisfies FromWorker, { transfer: moved });
  } catch (error) {
    postMessage({ id, error: firstLine(error) } satisfies FromWorker);
  }
});

function movable({ frame, mask, overlay }: Segmented): Transferable[] {
  return [frame.buffer, mask.buffer, overlay.buffer];
}
