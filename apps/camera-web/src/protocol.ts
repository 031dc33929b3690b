/** What the page and its worker say to each other. */

import type { Trial } from "./choose";
import type { Classes, Preprocess, Variant } from "./manifest";
import type { Schedule, Timing } from "./timing";

/** What the worker tells about an opened bundle, for the page and the result file. */
export interface BundleFacts {
  name: string;
  precision: string;
  target: string;
  sha256: string;
  classes: Classes;
  preprocess: Preprocess;
}

export interface Started {
  trials: Trial[];
  bundles: BundleFacts[];
  threads: number;
}

/** Milliseconds of one frame in the worker. */
export interface Times {
  preprocess: number;
  infer: number;
  postprocess: number;
  draw: number;
}

/** One segmented frame: its pixels, class ids of the frame's size, and the mask in the classes' colours. */
export interface Segmented {
  width: number;
  height: number;
  frame: Uint8ClampedArray<ArrayBuffer>;
  mask: Uint8Array<ArrayBuffer>;
  overlay: Uint8ClampedArray<ArrayBuffer>;
  times: Times;
  key: string;
}

/** One RGBA picture. */
export interface Frame {
  rgba: Uint8ClampedArray;
  width: number;
  height: number;
}

export interface Timings {
  model: Timing;
  endToEnd: Timing;
  frame: { width: number; height: number };
}

export interface Calls {
  start: { ask: { variants: Variant[]; runtimeFiles: string; large: boolean; threads: number }; answer: Started };
  use: { ask: { key: string }; answer: null };
  segment: { ask: { picture: ImageBitmap }; answer: Segmented };
  bench: { ask: { keys: string[]; schedule: Schedule; frame: Frame | null }; answer: Timings };
}

export type Kind = keyof Calls;

/** What the worker is doing, in words for the screen; `share` of it is done where that is known. */
export interface Progress {
  text: string;
  share: number | null;
}

export type FromWorker =
  | { id: number; answer: unknown }
  | { id: number; error: string }
  | { progress: Progress };

export interface ToWorker {
  id: number;
  kind: Kind;
  ask: unknown;
}
