/** The page's pixels against the host's, bit by bit: resize, mask back to the frame, feeds, logits. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Preprocess, TensorSpec } from "../src/manifest";
import { resizeFrame, restoreMask } from "../src/resize";
import { agreement, channelsOf, colourMask, feedFromPixels, fromRgba } from "../src/tensors";
import { logitsFromOutput, maskFromLogits } from "../src/tensors";

interface Cases {
  sizes: { frame: number[]; preprocess: Preprocess; seed: number; resized: string; restored: string }[];
  feeds: { spec: TensorSpec; preprocess: Preprocess; seed: number; feed: string }[];
  outputs: { spec: TensorSpec; channels: number; seed: number; logits: string; mask: string }[];
}
const cases = JSON.parse(readFileSync(new URL("./fixtures/pixels.json", import.meta.url), "utf8")) as Cases;

function noise(count: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => {
    let value = (Math.imul(i, 2654435761) + seed) >>> 0;
    value = (value ^ (value >>> 15)) >>> 0;
    return Math.imul(value, 2246822519) >>> 24;
  });
}

function digest(values: ArrayBufferView): string {
  return createHash("sha256").update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)).digest("hex");
}

describe.each(cases.sizes)("frame $frame to $preprocess.height x $preprocess.width, $preprocess.resize", (one) => {
  const [height, width, channels] = one.frame;
  it("is resized as on the host", () => {
    const data = noise(height * width * channels, one.seed);
    const resized = resizeFrame({ data, height, width, channels }, one.preprocess);
    expect([resized.height, resized.width]).toEqual([one.preprocess.height, one.preprocess.width]);
    expect(digest(resized.data)).toBe(one.resized);
  });
  it("gets its mask back as on the host", () => {
    const { height: h, width: w } = one.preprocess;
    const mask = noise(h * w, one.seed + 100).map((value) => value % 3);
    expect(digest(restoreMask(mask, height, width, one.preprocess))).toBe(one.restored);
  });
});

it.each(cases.feeds)("feeds $spec.dtype $spec.layout as the host", ({ spec, preprocess, seed, feed }) => {
  const { height, width } = preprocess;
  const pixels = { data: noise(height * width * 3, seed), height, width, channels: 3 };
  expect(digest(feedFromPixels(pixels, spec, preprocess))).toBe(feed);
});

it.each(cases.outputs)("reads $spec.dtype $spec.layout, $channels channels, scale $spec.scale", (one) => {
  const raw = noise(72 * one.channels, one.seed);
  const float32 = Float32Array.from(raw, (v) => (v - 128) / 8);
  const values = { float32, uint8: raw, int8: Int8Array.from(raw, (v) => v - 128) };
  const logits = logitsFromOutput(values[one.spec.dtype as "uint8"], one.spec);
  expect(digest(logits)).toBe(one.logits);
  expect(channelsOf(one.spec)).toBe(one.channels);
  expect(digest(maskFromLogits(logits, one.channels))).toBe(one.mask);
});

it("takes the colours in the model's order", () => {
  const rgba = Uint8Array.from([10, 20, 30, 255, 40, 50, 60, 255]);
  const spec = (color_order: string, channels: number) => ({ color_order, channels }) as Preprocess;
  expect([...fromRgba(rgba, 1, 2, spec("RGB", 3)).data]).toEqual([10, 20, 30, 40, 50, 60]);
  expect([...fromRgba(rgba, 1, 2, spec("BGR", 3)).data]).toEqual([30, 20, 10, 60, 50, 40]);
  expect([...fromRgba(rgba, 1, 2, spec("GRAY", 1)).data]).toEqual([18, 48]);
});

it("colours classes and leaves background and unknown values clear", () => {
  const into = new Uint8ClampedArray(12);
  colourMask(Uint8Array.from([0, 1, 9]), { names: ["background", "polyp"], palette: [[9, 9, 9], [1, 200, 83]] }, into);
  expect([...into]).toEqual([0, 0, 0, 0, 1, 200, 83, 255, 0, 0, 0, 0]);
});

it("counts equal pixels", () => {
  expect(agreement(Uint8Array.from([0, 1, 1, 0]), Uint8Array.from([0, 1, 0, 0]))).toBe(0.75);
  expect(agreement(Uint8Array.from([0]), Uint8Array.from([0, 0]))).toBe(0);
});
