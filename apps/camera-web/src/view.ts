/** What the screen says: the card while nothing is live, figures over the picture, the legend, short notices. */

import type { Trial } from "./choose";
import { $, make, ms } from "./dom";
import type { Classes } from "./manifest";

export interface Card {
  title: string;
  text: string;
  steps?: string[];
  button?: { text: string; click: () => void };
}

/** A card over the dimmed stage: working, or something the user has to do. */
export function showCard(card: Card, state: "starting" | "failed"): void {
  $("app").dataset.state = state;
  for (const id of ["hud", "controls", "legend"]) $(id).hidden = true;
  $("card").hidden = false;
  $("card").classList.toggle("failed", state === "failed");
  $("card-title").textContent = card.title;
  $("card-text").textContent = card.text;
  $("card-progress").hidden = state === "failed";
  $("card-steps").hidden = !card.steps;
  $("card-steps").replaceChildren(...(card.steps ?? []).map((step) => make("li", step)));
  const button = $<HTMLButtonElement>("card-button");
  button.hidden = !card.button;
  button.textContent = card.button?.text ?? "";
  button.onclick = card.button?.click ?? null;
}

/** The line under the title while the worker works. */
export function showProgress(text: string, share: number | null): void {
  const bar = $<HTMLProgressElement>("card-progress");
  $("card-text").textContent = text;
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

/** The camera is running. */
export function showLive(): void {
  $("app").dataset.state = "live";
  $("card").hidden = true;
  for (const id of ["hud", "controls", "legend"]) $(id).hidden = false;
}

export function showFigures(rate: number | null, p50: number | null, p90: number | null): void {
  $("fps").textContent = rate === null ? "–" : rate < 10 ? rate.toFixed(1) : rate.toFixed(0);
  $("p50").textContent = ms(p50);
  $("p90").textContent = ms(p90);
}

/** The model that runs; orange where another one was refused. */
export function showChip(current: Trial, trials: readonly Trial[]): void {
  const refused = trials.some((trial) => trial.refused !== null && trial.provider === "wasm");
  $("chip").classList.toggle("warn", refused);
  $("chip-precision").textContent = current.precision.toUpperCase();
  const threads = /(\d+) threads?/.exec(current.runtime)?.[1];
  const how = { wasm: "WASM", webgpu: "WebGPU", webnn: "WebNN" }[current.provider];
  $("chip-how").textContent = threads ? `${how} · ${threads} thread${threads === "1" ? "" : "s"}` : how;
}

export function showLegend(classes: Classes): void {
  $("legend").replaceChildren(...classes.names.slice(1).map((name, i) => {
    const item = make("li");
    const colour = make("i");
    colour.style.background = `rgb(${classes.palette[i + 1].join(" ")})`;
    item.append(colour, name);
    return item;
  }));
}

let timer = 0;

/** A line for some seconds above the controls. */
export function notify(text: string, bad = false): void {
  const notice = $("notice");
  notice.textContent = text;
  notice.classList.toggle("bad", bad);
  notice.hidden = false;
  clearTimeout(timer);
  timer = window.setTimeout(() => (notice.hidden = true), bad ? 8000 : 3500);
}
