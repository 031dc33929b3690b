/** The sheet from below: models with their figures, benchmark, camera and mask, what this device is. */

import type { Trial } from "./choose";
import type { DeviceFacts } from "./device";
import { $, make, ms } from "./dom";
import { percentile } from "./percentiles";
import type { BundleFacts, Timings } from "./protocol";

const PROVIDERS = { wasm: "WASM", webgpu: "WebGPU", webnn: "WebNN" };

/** From its top, wherever it was left. */
export function openSheet(): void {
  const sheet = $<HTMLDialogElement>("sheet");
  sheet.showModal();
  sheet.querySelector(".scroll")!.scrollTop = 0;
}

/** Wire the closing: the button, a tap beside the sheet, Escape. */
export function readySheet(): void {
  const sheet = $<HTMLDialogElement>("sheet");
  $("close").onclick = () => sheet.close();
  sheet.addEventListener("click", (event) => {
    if (event.target === sheet) sheet.close();
  });
}

/** One row for every model and provider that was tried; a tap chooses it. */
export function showModels(trials: readonly Trial[], current: Trial | null, pick: (trial: Trial) => void): void {
  $("models").replaceChildren(...trials.map((trial) => modelRow(trial, trial.key === current?.key, () => pick(trial))));
}

function modelRow(trial: Trial, checked: boolean, pick: () => void): HTMLElement {
  const row = make("button", "", trial.refused === null ? "model" : "model refused");
  row.type = "button";
  row.setAttribute("role", "radio");
  row.setAttribute("aria-checked", String(checked));
  row.disabled = trial.refused !== null;
  row.onclick = pick;
  const text = make("div");
  text.append(make("b", trial.precision.toUpperCase()), ` ${PROVIDERS[trial.provider]}`, make("br"));
  text.append(make("span", trial.refused === null ? goldenText(trial.golden) : `refused: ${trial.refused}`));
  const figures = make("em", trial.p50_ms === null ? "" : ms(trial.p50_ms));
  if (trial.p50_ms !== null) figures.append(make("small", "ms"));
  row.append(make("i"), text, figures);
  return row;
}

function goldenText(golden: number | null): string {
  if (golden === null) return "golden frames not checked";
  return golden === 1 ? "golden frames: every pixel agrees" : `golden frames: ${(golden * 100).toFixed(2)} % agree`;
}

/** Why there is one model where there could be two. */
export function modelNote(bundles: readonly BundleFacts[]): string {
  if (bundles.length > 1) return "The median of one second on this device; the fastest that passes was chosen.";
  const other = bundles[0].precision === "int8" ? "FP32" : "INT8";
  return `Only ${bundles[0].precision.toUpperCase()} is served: there is no ${other} bundle of this model beside it.`;
}

export function showCameras(devices: readonly MediaDeviceInfo[], current: string | null): void {
  $("camera").replaceChildren(...devices.map((device, i) => {
    const option = make("option", device.label || `Camera ${i + 1}`);
    option.value = device.deviceId;
    option.selected = device.deviceId === current;
    return option;
  }));
  $<HTMLButtonElement>("flip").disabled = devices.length < 2;
}

export function showTimings(timings: Timings): void {
  const rows = ([["model", timings.model], ["end to end", timings.endToEnd]] as const).flatMap(([scope, timing]) =>
    timing.samples.map((found) => {
      const row = make("tr");
      const cells = [percentile(found.total_ns, 50) / 1e6, percentile(found.total_ns, 90) / 1e6];
      const name = `${found.label.split(" ")[0].toUpperCase()} ${scope}`;
      row.append(make("td", name), ...cells.map((v) => make("td", ms(v))), make("td", String(found.total_ns.length)));
      return row;
    }),
  );
  $("bench-table").querySelector("tbody")!.replaceChildren(...rows);
  $("bench-table").hidden = $("bench-save").hidden = false;
}

export function showFacts(device: DeviceFacts, bundle: BundleFacts, threads: number, offline: string): void {
  const { height, width } = bundle.preprocess;
  const facts: [string, string][] = [
    ["Model", `${bundle.name}, ${width}×${height}`],
    ["Threads", device.isolated ? `${threads} of ${device.cores ?? "?"} cores` : "1: the page is not isolated"],
    ["System", [device.model, device.os].filter(Boolean).join(", ") || "not told"],
    ["Browser", Object.entries(device.browser).map((pair) => pair.join(" ")).join(", ") || device.userAgent],
    ["Offline", offline],
    ["Privacy", "pictures never leave this device"],
  ];
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
}
