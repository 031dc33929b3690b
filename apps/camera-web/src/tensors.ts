/** From pixels to the network's input and from its output to class ids, as edge_unet/core/spec.py does it. */

import type { Classes, Preprocess, TensorSpec } from "./manifest";
import type { Pixels } from "./resize";
import { roundHalfEven } from "./rounding";

export type Values = Float32Array | Uint8Array | Int8Array;

/** RGBA bytes of a canvas -> the colours that the network was trained on. */
export function fromRgba(
  rgba: Uint8ClampedArray | Uint8Array, height: number, width: number, spec: Preprocess,
): Pixels {
  const { channels } = spec;
  const data = new Uint8Array(height * width * channels);
  if (channels === 1) {
    for (let i = 0, at = 0; i < data.length; i++, at += 4) data[i] = grey(rgba[at], rgba[at + 1], rgba[at + 2]);
    return { data, height, width, channels };
  }
  const [red, blue] = spec.color_order === "BGR" ? [2, 0] : [0, 2];
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to + red] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + blue] = rgba[from + 2];
  }
  return { data, height, width, channels };
}

/** Luma in 15-bit integers, as the host turns colour into grey. */
function grey(red: number, green: number, blue: number): number {
  return (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15;
}

/** (h, w, C) bytes at the input's size -> the values that input `spec` takes, in its dtype and layout. */
export function feedFromPixels(pixels: Pixels, spec: TensorSpec, preprocess: Preprocess): Values {
  const { data, channels } = pixels;
  const plane = pixels.height * pixels.width;
  const place =
    spec.layout === "NHWC" || channels === 1 ? null : (i: number) => (i % channels) * plane + ((i / channels) | 0);
  if (spec.dtype === "uint8" && !place) return data;
  const size = data.length;
  const kinds = { uint8: Uint8Array, int8: Int8Array, float32: Float32Array, float16: Float32Array };
  const out = new kinds[spec.dtype](size);
  const table = valuesOfBytes(spec, preprocess);
  if (!place) for (let i = 0; i < size; i++) out[i] = table[data[i]];
  else for (let i = 0; i < size; i++) out[place(i)] = table[data[i]];
  return out;
}

/** What each of the 256 bytes becomes. */
function valuesOfBytes(spec: TensorSpec, preprocess: Preprocess): Float32Array {
  const mean = Math.fround(preprocess.mean);
  const scale = Math.fround(preprocess.scale);
  return Float32Array.from({ length: 256 }, (_, byte) => {
    if (spec.dtype === "uint8") return byte;
    if (spec.dtype === "int8") return byte - 128;
    return Math.fround(Math.fround(byte - mean) * scale);
  });
}

/** Every value through `one`; a loop takes a fiftieth of the time of Float32Array.from, which iterates. */
function mapped(values: Values, one: (value: number) => number): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = one(values[i]);
  return out;
}

/** The raw values of output `spec` -> (C, h, w) float32 logits, on the spec's grid where it has one. */
export function logitsFromOutput(output: Values, spec: TensorSpec): Float32Array {
  let real: Float32Array;
  if (spec.scale !== null && spec.dtype.startsWith("float")) {
    const step = Math.fround(spec.scale);
    const code = (v: number) => Math.max(-128, Math.min(127, roundHalfEven(Math.fround(v / step))));
    real = mapped(output, (v) => code(v) * step);
  } else if (spec.scale !== null && spec.zero_point !== null) {
    const [step, zero] = [Math.fround(spec.scale), spec.zero_point];
    real = mapped(output, (v) => (v - zero) * step);
  } else {
    real = output instanceof Float32Array ? output : Float32Array.from(output);
  }
  if (spec.layout === "NCHW") return real;
  const channels = spec.shape[3];
  const plane = real.length / channels;
  const planes = new Float32Array(real.length);
  for (let i = 0; i < real.length; i++) planes[(i % channels) * plane + ((i / channels) | 0)] = real[i];
  return planes;
}

/** (C, h, w) logits -> (h, w) class ids: logit > 0 for one channel, else the largest, the first where two tie. */
export function maskFromLogits(logits: Float32Array, channels: number): Uint8Array {
  const plane = logits.length / channels;
  const mask = new Uint8Array(plane);
  if (channels === 1) {
    for (let i = 0; i < plane; i++) mask[i] = logits[i] > 0 ? 1 : 0;
    return mask;
  }
  const most = logits.slice(0, plane);
  for (let c = 1; c < channels; c++) {
    for (let i = 0, at = c * plane; i < plane; i++, at++) {
      if (logits[at] > most[i]) {
        most[i] = logits[at];
        mask[i] = c;
      }
    }
  }
  return mask;
}

/** Logit channels of an output, by its layout. */
export function channelsOf(spec: TensorSpec): number {
  return spec.layout === "NCHW" ? spec.shape[1] : spec.shape[3];
}

/** Class ids -> RGBA in the classes' colours: opaque where there is a class, clear on background and ignored pixels. */
export function colourMask(mask: Uint8Array, classes: Classes, into: Uint8ClampedArray): void {
  const table = new Uint32Array(256);
  classes.palette.forEach(([r, g, b], value) => {
    if (value > 0) table[value] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  const words = new Uint32Array(into.buffer, into.byteOffset, mask.length);
  for (let i = 0; i < mask.length; i++) words[i] = table[mask[i]];
}

/** Share of equal pixels of two masks of one size. */
export function agreement(mask: Uint8Array, expected: Uint8Array): number {
  if (mask.length !== expected.length) return 0;
  let equal = 0;
  for (let i = 0; i < mask.length; i++) if (mask[i] === expected[i]) equal++;
  return equal / mask.length;
}
