/** Fetching a bundle: its manifest, the model with its sha256 checked, the golden frames as pixels and class ids. */

import { checkManifest, sha256, type Manifest, type Variant } from "./manifest";
import type { BundleFacts } from "./protocol";
import type { Pixels } from "./resize";
import { fromRgba } from "./tensors";

export interface Golden {
  frame: Pixels;
  mask: Uint8Array;
}

export interface Bundle {
  manifest: Manifest;
  model: Uint8Array;
  golden: Golden[];
}

async function fetched(url: string): Promise<Response> {
  const answer = await fetch(url).catch((error: unknown) => {
    throw new Error(`${url}: cannot be fetched (${String(error)}); is the computer that serves this page still on?`);
  });
  if (!answer.ok) throw new Error(`${url}: the server answered ${answer.status}`);
  return answer;
}

/** RGBA bytes of a picture, as stored: no colour management, no premultiplied alpha. */
export async function decode(blob: Blob): Promise<ImageData> {
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(picture, 0, 0);
  picture.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Open one variant. Rejects with a line for the user where something is missing or damaged. */
export async function openBundle({ base }: Variant): Promise<Bundle> {
  const manifest = checkManifest(await (await fetched(`${base}manifest.json`)).json(), base);
  const file = `${base}${manifest.artifact.path}`;
  const bytes = await (await fetched(file)).arrayBuffer();
  const received = await sha256(bytes);
  if (received !== null && received !== manifest.artifact.sha256) {
    throw new Error(
      `${file}: sha256 expected ${manifest.artifact.sha256.slice(0, 12)}…, received ${received.slice(0, 12)}…`,
    );
  }
  const golden = await Promise.all(manifest.golden.map(async (entry): Promise<Golden> => {
    const frame = await decode(await (await fetched(`${base}${entry.frame}`)).blob());
    const mask = await decode(await (await fetched(`${base}${entry.mask}`)).blob());
    const ids = Uint8Array.from({ length: mask.width * mask.height }, (_, i) => mask.data[4 * i]);
    return { frame: fromRgba(frame.data, frame.height, frame.width, manifest.preprocess), mask: ids };
  }));
  return { manifest, model: new Uint8Array(bytes), golden };
}

/** What the page needs to know of it. */
export function factsOf({ manifest }: Bundle): BundleFacts {
  const { artifact } = manifest;
  return {
    name: manifest.name, precision: artifact.precision, target: artifact.target, sha256: artifact.sha256,
    classes: manifest.classes, preprocess: manifest.preprocess,
  };
}
