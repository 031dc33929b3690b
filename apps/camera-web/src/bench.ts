/** 'Run the benchmark and save the JSON'. The live loop rests meanwhile: the worker has one thing to do at a time. */

import { bestOfEach } from "./choose";
import type { Client } from "./client";
import type { DeviceFacts } from "./device";
import { $ } from "./dom";
import type { Live } from "./live";
import type { Segmented, Started } from "./protocol";
import { buildReport } from "./result";
import { download, stamp } from "./save";
import { showTimings } from "./sheet";
import type { Schedule } from "./timing";

export class Bench {
  report: object | null = null;
  running = false;

  constructor(
    private readonly client: Client,
    private readonly live: Live,
    private readonly started: Started,
    private readonly device: DeviceFacts,
  ) {}

  /** Measure the fastest passing model of each precision by turns. Rejects where the worker fails. */
  async run(schedule: Schedule): Promise<void> {
    if (this.running) return;
    this.begin();
    let hidden = document.hidden;
    const look = () => (hidden ||= document.hidden);
    document.addEventListener("visibilitychange", look);
    try {
      const keys = bestOfEach(this.started.trials).map(({ key }) => key);
      const frame = this.live.last ? frameOf(this.live.last) : null;
      const timings = await this.client.call("bench", { keys, schedule, frame });
      this.report = buildReport(this.started, this.device, { schedule, timings, created: new Date(), hidden });
      showTimings(timings);
    } finally {
      document.removeEventListener("visibilitychange", look);
      this.end();
    }
  }

  progress(text: string, share: number | null): void {
    if (!this.running) return;
    $("bench-note").textContent = text;
    $<HTMLProgressElement>("bench-progress").value = share ?? 0;
  }

  save(): void {
    if (!this.report) return;
    const blob = new Blob([JSON.stringify(this.report, null, 1) + "\n"], { type: "application/json" });
    download(blob, `edge-unet-bench-${stamp(new Date())}.json`);
  }

  private begin(): void {
    this.running = true;
    this.live.pause();
    $("bench-progress").hidden = false;
    this.buttons(true);
  }

  private end(): void {
    this.running = false;
    $("bench-progress").hidden = true;
    $("bench-note").textContent = NOTE;
    this.buttons(false);
    if (!this.live.frozen) this.live.resume();
  }

  private buttons(disabled: boolean): void {
    for (const id of ["bench-rapid", "bench-full"]) $<HTMLButtonElement>(id).disabled = disabled;
  }
}

export const NOTE =
  "Models by turns, the picture rests meanwhile. Keep the page on the screen and the phone unplugged.";

function frameOf({ frame, width, height }: Segmented) {
  return { rgba: frame, width, height };
}
