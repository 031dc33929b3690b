/** Files for the user: a snapshot with its mask, a result. */

import type { Segmented } from "./protocol";

export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** 2026-11-21T19-05-33, the user's own time: names that sort. */
export function stamp(now: Date): string {
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19).replaceAll(":", "-");
}

/** The frame with its mask over it, `alpha` parts of it, as PNG. */
export async function picture({ frame, overlay, width, height }: Segmented, alpha: number): Promise<Blob> {
  const [below, above] = [new OffscreenCanvas(width, height), new OffscreenCanvas(width, height)];
  below.getContext("2d")!.putImageData(new ImageData(frame, width, height), 0, 0);
  above.getContext("2d")!.putImageData(new ImageData(overlay, width, height), 0, 0);
  const context = below.getContext("2d")!;
  context.globalAlpha = alpha;
  context.drawImage(above, 0, 0);
  return below.convertToBlob({ type: "image/png" });
}
