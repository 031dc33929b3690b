/** A bundle as the page sees it: the parts of manifest.json that it needs, checked when read. */

export type Precision = "int8" | "fp32";

export interface TensorSpec {
  name: string;
  shape: number[];
  dtype: "float32" | "float16" | "int8" | "uint8";
  layout: "NCHW" | "NHWC";
  scale: number | null;
  zero_point: number | null;
}

export interface Preprocess {
  height: number;
  width: number;
  channels: 1 | 3;
  color_order: "RGB" | "BGR" | "GRAY";
  resize: "stretch" | "letterbox";
  mean: number;
  scale: number;
  pad_value: number;
}

export interface Classes {
  names: string[];
  palette: [number, number, number][];
}

export interface Manifest {
  schema_version: number;
  name: string;
  artifact: {
    path: string;
    sha256: string;
    bytes: number;
    target: string;
    precision: Precision;
    inputs: TensorSpec[];
    outputs: TensorSpec[];
  };
  preprocess: Preprocess;
  classes: Classes;
  golden: { frame: string; mask: string }[];
}

/** One bundle that the server offers: `base` is the folder of its files, with a slash at the end. */
export interface Variant {
  precision: Precision;
  base: string;
}

/** files.json: every file of the page and its bundles; `version` changes when one of them does. */
export interface Listing {
  version: string;
  files: string[];
  variants: Variant[];
}

/** Read a manifest and refuse what this page cannot run, in words a user understands. */
export function checkManifest(value: unknown, where: string): Manifest {
  const manifest = value as Manifest;
  if (manifest?.schema_version !== 1 || !manifest.artifact || !manifest.preprocess) {
    throw new Error(`${where}: no manifest of version 1; export the bundle again`);
  }
  const { inputs, outputs } = manifest.artifact;
  if (inputs.length !== 1 || outputs.length < 1) {
    throw new Error(`${where}: expected one input and an output, received ${inputs.length} and ${outputs.length}`);
  }
  for (const spec of [inputs[0], outputs[0]]) {
    if (spec.dtype === "float16") throw new Error(`${where}: tensor ${spec.name} is float16; export fp32 or int8`);
  }
  return manifest;
}

/** Hex sha256 of a file's bytes; null where the page is no secure origin and the browser has no digest. */
export async function sha256(bytes: ArrayBuffer): Promise<string | null> {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
