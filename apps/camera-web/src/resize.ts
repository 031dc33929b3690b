/**
 * The one resize of the toolkit, bit for bit as edge_unet/frames/resize.py: area averaging when shrinking, else
 * bilinear with 11-bit weights; letterbox with grey bars; masks back to the frame by nearest pixel centres.
 */

import type { Preprocess } from "./manifest";
import { roundHalfEven } from "./rounding";

/** (height, width, channels) of bytes, row by row. */
export interface Pixels {
  data: Uint8Array;
  height: number;
  width: number;
  channels: number;
}

/** Where the frame lands in the network's input. */
export function innerOf(height: number, width: number, spec: Preprocess) {
  if (spec.resize === "stretch") return { top: 0, left: 0, height: spec.height, width: spec.width };
  const ratio = Math.min(spec.height / height, spec.width / width);
  const h = Math.max(1, roundHalfEven(height * ratio));
  const w = Math.max(1, roundHalfEven(width * ratio));
  return { top: Math.floor((spec.height - h) / 2), left: Math.floor((spec.width - w) / 2), height: h, width: w };
}

/** Frame -> the network's input size, same colours. */
export function resizeFrame(frame: Pixels, spec: Preprocess): Pixels {
  const inner = innerOf(frame.height, frame.width, spec);
  let scaled = frame;
  if (frame.height !== inner.height || frame.width !== inner.width) {
    const shrinking = inner.height < frame.height && inner.width < frame.width;
    scaled = (shrinking ? resizeArea : resizeLinear)(frame, inner.height, inner.width);
  }
  if (inner.height === spec.height && inner.width === spec.width) return scaled;
  const data = new Uint8Array(spec.height * spec.width * frame.channels).fill(spec.pad_value);
  const row = inner.width * frame.channels;
  for (let y = 0; y < inner.height; y++) {
    const to = ((inner.top + y) * spec.width + inner.left) * frame.channels;
    data.set(scaled.data.subarray(y * row, (y + 1) * row), to);
  }
  return { data, height: spec.height, width: spec.width, channels: frame.channels };
}

/** Class ids at the network's size -> (height, width) of the frame; letterbox bars are cut. */
export function restoreMask(mask: Uint8Array, height: number, width: number, spec: Preprocess): Uint8Array {
  const inner = innerOf(height, width, spec);
  const columns = nearest(inner.width, width);
  const rows = nearest(inner.height, height);
  const out = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    const from = (inner.top + rows[y]) * spec.width + inner.left;
    for (let x = 0; x < width; x++) out[y * width + x] = mask[from + columns[x]];
  }
  return out;
}

/**
 * Source index of every target index, by pixel centres. Added up step by step in float64, as the host does it: where
 * a centre falls on the border of two pixels, the rounding of the sum decides, and it must be the same one.
 */
function nearest(source: number, target: number): Int32Array {
  const step = source / target;
  const found = new Int32Array(target);
  for (let x = 0, at = 0.5 * step; x < target; x++, at += step) found[x] = Math.min(source - 1, Math.floor(at));
  return found;
}

interface Shares {
  to: Int32Array;
  from: Int32Array;
  weight: Float32Array;
}

const tables = new Map<string, Shares>();

/** Which source pixel gives which share (float32) to which target pixel, in order. */
function shares(source: number, target: number): Shares {
  const key = `${source}:${target}`;
  const known = tables.get(key);
  if (known) return known;
  const scale = 1 / (target / source);
  const to: number[] = [];
  const from: number[] = [];
  const weight: number[] = [];
  const give = (x: number, s: number, share: number) => (to.push(x), from.push(s), weight.push(share));
  for (let x = 0; x < target; x++) {
    const begin = x * scale;
    const end = begin + scale;
    const cell = Math.min(scale, source - begin);
    const last = Math.min(Math.floor(end), source - 1);
    const first = Math.min(Math.ceil(begin), last);
    if (first - begin > 1e-3) give(x, first - 1, (first - begin) / cell);
    for (let s = first; s < last; s++) give(x, s, 1 / cell);
    if (end - last > 1e-3) give(x, last, Math.min(end - last, 1, cell) / cell);
  }
  const made = { to: Int32Array.from(to), from: Int32Array.from(from), weight: Float32Array.from(weight) };
  tables.set(key, made);
  return made;
}

/** Area averaging; whole-number ratios are summed as integers, the others in float32. */
function resizeArea(frame: Pixels, height: number, width: number): Pixels {
  const down = Math.round(frame.height / height);
  const across = Math.round(frame.width / width);
  if (down * height === frame.height && across * width === frame.width) return wholeArea(frame, height, width);
  const { channels } = frame;
  const columns = shares(frame.width, width);
  const rows = shares(frame.height, height);
  const length = width * channels;
  const line = new Float32Array(length);
  const sum = new Float32Array(length);
  const data = new Uint8Array(height * length);
  for (let k = 0; k < rows.to.length; k++) {
    const y = rows.to[k];
    averageRow(frame, rows.from[k], columns, line);
    const beta = rows.weight[k];
    if (k === 0 || rows.to[k - 1] !== y) sum.fill(0);
    for (let i = 0; i < length; i++) sum[i] += Math.fround(beta * line[i]);
    if (k + 1 === rows.to.length || rows.to[k + 1] !== y) {
      for (let i = 0; i < length; i++) data[y * length + i] = roundByte(sum[i]);
    }
  }
  return { data, height, width, channels };
}

/** One source row averaged to the target's width, float32. */
function averageRow(frame: Pixels, y: number, columns: Shares, line: Float32Array): void {
  const { channels, data } = frame;
  const { to, from, weight } = columns;
  const base = y * frame.width * channels;
  line.fill(0);
  for (let k = 0; k < to.length; k++) {
    const share = weight[k];
    let target = to[k] * channels;
    let source = base + from[k] * channels;
    for (let c = 0; c < channels; c++) line[target++] += Math.fround(data[source++] * share);
  }
}

/** Area averaging by whole numbers: the mean of each block; 2x2 in integers, as the host's fast path. */
function wholeArea(frame: Pixels, height: number, width: number): Pixels {
  const { channels } = frame;
  const down = frame.height / height;
  const across = frame.width / width;
  const share = Math.fround(1 / (down * across));
  const two = down === 2 && across === 2;
  const data = new Uint8Array(height * width * channels);
  for (let y = 0, out = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++, out++) {
        let sum = 0;
        for (let j = 0; j < down; j++) {
          let at = ((y * down + j) * frame.width + x * across) * channels + c;
          for (let i = 0; i < across; i++, at += channels) sum += frame.data[at];
        }
        data[out] = two ? (sum + 2) >> 2 : roundByte(Math.fround(sum * share));
      }
    }
  }
  return { data, height, width, channels };
}

interface Taps {
  first: Int32Array;
  second: Int32Array;
  near: Int32Array;
  far: Int32Array;
}

/** The two source pixels of each target pixel and their weights of 2048; `edge`: past the border one pixel counts. */
function taps(source: number, target: number, edge: boolean): Taps {
  const scale = 1 / (target / source);
  const made = {
    first: new Int32Array(target),
    second: new Int32Array(target),
    near: new Int32Array(target),
    far: new Int32Array(target),
  };
  for (let x = 0; x < target; x++) {
    let at = Math.fround((x + 0.5) * scale - 0.5);
    let left = Math.floor(at);
    at = Math.fround(at - left);
    if (edge && left < 0) [left, at] = [0, 0];
    if (edge && left >= source - 1) [left, at] = [source - 1, 0];
    made.first[x] = Math.max(0, left);
    made.second[x] = Math.min(left + 1, source - 1);
    made.near[x] = roundHalfEven(Math.fround(Math.fround(1 - at) * 2048));
    made.far[x] = roundHalfEven(Math.fround(at * 2048));
  }
  return made;
}

/** Bilinear in integers: rows with 11-bit weights, columns with their upper bits. */
function resizeLinear(frame: Pixels, height: number, width: number): Pixels {
  const { channels } = frame;
  const columns = taps(frame.width, width, true);
  const rows = taps(frame.height, height, false);
  const length = width * channels;
  const lines = new Map<number, Int32Array>();
  const lineOf = (y: number) => {
    let line = lines.get(y);
    if (!line) {
      line = blendRow(frame, y, columns, length);
      lines.set(y, line);
    }
    return line;
  };
  const data = new Uint8Array(height * length);
  for (let y = 0; y < height; y++) {
    const upper = lineOf(rows.first[y]);
    const lower = lineOf(rows.second[y]);
    const near = rows.near[y];
    const far = rows.far[y];
    for (let i = 0; i < length; i++) {
      const value = (((near * (upper[i] >> 4)) >> 16) + ((far * (lower[i] >> 4)) >> 16) + 2) >> 2;
      data[y * length + i] = Math.max(0, Math.min(255, value));
    }
  }
  return { data, height, width, channels };
}

function blendRow(frame: Pixels, y: number, columns: Taps, length: number): Int32Array {
  const { channels, data } = frame;
  const base = y * frame.width * channels;
  const line = new Int32Array(length);
  for (let x = 0, out = 0; x < columns.first.length; x++) {
    const left = base + columns.first[x] * channels;
    const right = base + columns.second[x] * channels;
    for (let c = 0; c < channels; c++, out++) {
      line[out] = data[left + c] * columns.near[x] + data[right + c] * columns.far[x];
    }
  }
  return line;
}

function roundByte(value: number): number {
  const rounded = roundHalfEven(value);
  return rounded < 0 ? 0 : rounded > 255 ? 255 : rounded;
}
