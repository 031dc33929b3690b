/** The page's end of the worker: calls that answer once, and progress. */

import type { Calls, FromWorker, Kind, Progress } from "./protocol";

interface Open {
  resolve: (value: never) => void;
  reject: (error: Error) => void;
}

export class Client {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "segmenter" });
  private readonly open = new Map<number, Open>();
  private number = 0;

  constructor(progress: (progress: Progress) => void) {
    this.worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
      if ("progress" in data) return progress(data.progress);
      const call = this.open.get(data.id);
      this.open.delete(data.id);
      if ("error" in data) call?.reject(new Error(data.error));
      else call?.resolve(data.answer as never);
    });
    this.worker.addEventListener("error", (event) => this.fail(event.message || "the worker could not be loaded"));
    this.worker.addEventListener("messageerror", () => this.fail("the worker sent what the page cannot read"));
  }

  call<K extends Kind>(kind: K, ask: Calls[K]["ask"], moved: Transferable[] = []): Promise<Calls[K]["answer"]> {
    const id = ++this.number;
    return new Promise((resolve, reject) => {
      this.open.set(id, { resolve: resolve as Open["resolve"], reject });
      this.worker.postMessage({ id, kind, ask }, moved);
    });
  }

  private fail(reason: string): void {
    for (const { reject } of this.open.values()) reject(new Error(reason));
    this.open.clear();
  }
}
