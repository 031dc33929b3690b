/** The loop: newest camera frame -> worker -> mask over the picture. The picture itself is the browser's own video. */

import type { Client } from "./client";
import { $ } from "./dom";
import { Latest } from "./latest";
import { Window } from "./percentiles";
import type { Segmented } from "./protocol";
import { showFigures } from "./view";

const SHOWN = 60;
/** The figures change four times a second: faster, nobody can read them. */
const EVERY_MS = 250;

export class Live {
  /** The last frame with its mask: what a freeze shows and a snapshot saves. */
  last: Segmented | null = null;
  frames = 0;
  private isTogether = false;
  private paused = true;
  private isFrozen = false;
  private painted = 0;
  private generation = 0;
  private readonly video = $<HTMLVideoElement>("video");
  private readonly mask = $<HTMLCanvasElement>("mask");
  private readonly still = $<HTMLCanvasElement>("frozen");
  private readonly window = new Window(SHOWN);
  private readonly latest: Latest<number>;

  constructor(private readonly client: Client, failed: (error: unknown) => void) {
    this.latest = new Latest((generation) => this.segment(generation), undefined, failed);
  }

  get frozen(): boolean {
    return this.isFrozen;
  }

  /** Show each frame when its mask is there, in place of the running video: right on slow devices and fast scenes. */
  set together(on: boolean) {
    this.isTogether = on;
    this.still.hidden = !(on || this.isFrozen);
    if (on && this.last) this.paint(this.last);
  }

  get dropped(): number {
    return this.latest.dropped;
  }

  /** Show a camera and segment it. */
  async begin(stream: MediaStream, mirror: boolean): Promise<void> {
    this.video.srcObject = stream;
    $("stage").classList.toggle("mirror", mirror);
    await this.video.play();
    this.fit();
    this.resume();
  }

  resume(): void {
    this.reset();
    if (!this.paused) return;
    this.paused = false;
    this.watch();
  }

  pause(): void {
    this.paused = true;
    this.generation++;
    this.latest.clear();
  }

  /** Forget the figures: another model or camera is another measurement. */
  reset(): void {
    this.window.clear();
    showFigures(null, null, null);
  }

  freeze(on: boolean): void {
    if (on && !this.last) return;
    this.isFrozen = on;
    this.still.hidden = !(on || this.isTogether);
    if (!on) return this.resume();
    this.pause();
    this.paint(this.last!);
  }

  /** A picture that fills the screen but for thin bars fills it wholly: the mask is cut alike. */
  fit(): void {
    const { videoWidth, videoHeight } = this.video;
    const stage = $("stage").getBoundingClientRect();
    const ratio = videoWidth / videoHeight / (stage.width / stage.height);
    $("stage").classList.toggle("cover", ratio > 0.6 && ratio < 1.7 && stage.width < 600);
  }

  private watch(): void {
    const generation = this.generation;
    const again = () => {
      if (this.paused || generation !== this.generation) return;
      this.latest.offer(generation);
      next();
    };
    const next = () => {
      if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback(again);
      else requestAnimationFrame(again);
    };
    next();
  }

  /** Grabs the video's newest frame at the moment the worker is free for it. */
  private async segment(generation: number): Promise<void> {
    if (generation !== this.generation || this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    const picture = await createImageBitmap(this.video);
    const found = await this.client.call("segment", { picture }, [picture]);
    if (generation !== this.generation) return;
    this.last = found;
    this.frames++;
    this.paint(found);
    const { preprocess, infer, postprocess, draw } = found.times;
    const now = performance.now();
    this.window.add(preprocess + infer + postprocess + draw, now);
    if (now - this.painted < EVERY_MS) return;
    this.painted = now;
    showFigures(this.window.rate(), this.window.percentile(50), this.window.percentile(90));
  }

  private paint({ frame, overlay, width, height }: Segmented): void {
    put(this.mask, overlay, width, height);
    if (!this.still.hidden) put(this.still, frame, width, height);
  }
}

function put(canvas: HTMLCanvasElement, rgba: Uint8ClampedArray<ArrayBuffer>, width: number, height: number): void {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d")!.putImageData(new ImageData(rgba, width, height), 0, 0);
}
