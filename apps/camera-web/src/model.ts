/** One opened model on one provider: from pixels to class ids, and its part of the start and of the benchmark. */

import { refusal, type Provider, type Trial } from "./choose";
import type { Bundle } from "./bundle";
import type { Times } from "./protocol";
import { resizeFrame, restoreMask, type Pixels } from "./resize";
import { open, type Session } from "./runtime";
import { agreement, channelsOf, colourMask, feedFromPixels, fromRgba } from "./tensors";
import { logitsFromOutput, maskFromLogits, type Values } from "./tensors";
import type { Timed } from "./timing";

export class Model {
  constructor(
    readonly key: string,
    readonly bundle: Bundle,
    readonly provider: Provider,
    readonly session: Session,
  ) {}

  private get output() {
    return this.bundle.manifest.artifact.outputs[0];
  }

  get preprocess() {
    return this.bundle.manifest.preprocess;
  }

  feed(pixels: Pixels): Values {
    return feedFromPixels(pixels, this.bundle.manifest.artifact.inputs[0], this.preprocess);
  }

  /** Raw output -> (h, w) class ids at the network's size. */
  ids(output: Values): Uint8Array {
    return maskFromLogits(logitsFromOutput(output, this.output), channelsOf(this.output));
  }

  /** Agreement of the worst golden frame. */
  async worstGolden(): Promise<number> {
    let worst = 1;
    for (const { frame, mask } of this.bundle.golden) {
      worst = Math.min(worst, agreement(this.ids(await this.session.run(this.feed(frame))), mask));
    }
    return worst;
  }

  /** RGBA frame -> class ids of the frame's size and the coloured mask. */
  async segment(rgba: Uint8ClampedArray, height: number, width: number) {
    const begin = performance.now();
    const feed = this.feed(resizeFrame(fromRgba(rgba, height, width, this.preprocess), this.preprocess));
    const ready = performance.now();
    const output = await this.session.run(feed);
    const done = performance.now();
    const mask = restoreMask(this.ids(output), height, width, this.preprocess) as Uint8Array<ArrayBuffer>;
    const masked = performance.now();
    const overlay = new Uint8ClampedArray(4 * height * width);
    colourMask(mask, this.bundle.manifest.classes, overlay);
    const drawn = performance.now();
    const times: Times = {
      preprocess: ready - begin, infer: done - ready, postprocess: masked - done, draw: drawn - masked,
    };
    return { mask, overlay, times };
  }

  /** The model alone, on a frame prepared beforehand. */
  modelOnly(label: string): Timed {
    const feed = this.feed(this.bundle.golden[0]?.frame ?? blank(this.preprocess));
    return { label, run: async () => (await this.session.run(feed), []) };
  }

  /** From RGBA pixels to the coloured mask. */
  endToEnd(label: string, rgba: Uint8ClampedArray, height: number, width: number): Timed {
    return {
      label,
      run: async () => {
        const { times } = await this.segment(rgba, height, width);
        return [times.preprocess, times.infer, times.postprocess, times.draw];
      },
    };
  }
}

function blank({ height, width, channels }: { height: number; width: number; channels: number }): Pixels {
  return { data: new Uint8Array(height * width * channels).fill(128), height, width, channels };
}

/** Open a bundle on a provider and check its golden frames. A failure is a refused trial, never an exception. */
export async function tryModel(
  bundle: Bundle, provider: Provider, files: string, threads: number,
): Promise<{ trial: Trial; model: Model | null }> {
  const { precision, inputs, outputs } = bundle.manifest.artifact;
  const key = `${precision} ${provider}`;
  const trial: Trial = {
    key, precision, provider, runtime: provider, golden: null, p50_ms: null, p90_ms: null, refused: null,
  };
  try {
    const session = await open(bundle.model, provider, inputs[0], outputs[0], files, threads);
    const model = new Model(key, bundle, provider, session);
    trial.runtime = session.runtime;
    if (bundle.golden.length === 0) throw new Error("the bundle holds no golden frames; export it again");
    trial.golden = await model.worstGolden();
    trial.refused = refusal(trial.golden);
    if (trial.refused === null) return { trial, model };
    await session.release();
  } catch (error) {
    trial.refused = firstLine(error);
  }
  return { trial, model: null };
}

/** An error in one line. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split("\n")[0].slice(0, 300);
}
