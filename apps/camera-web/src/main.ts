/** The page: start the worker, choose the model, open the camera, wire the buttons. */

import { Bench, NOTE } from "./bench";
import { cameraCard, cameras, hasLamp, nextCamera, openCamera, setLamp, type Camera } from "./camera";
import { choose, type Trial } from "./choose";
import { Client } from "./client";
import { deviceFacts } from "./device";
import { $ } from "./dom";
import { Live } from "./live";
import type { Listing } from "./manifest";
import { keepOffline, offerInstall } from "./offline";
import type { Started } from "./protocol";
import { hasLarge, threadsFor } from "./runtime";
import { download, picture, stamp } from "./save";
import { modelNote, openSheet, readySheet, showCameras, showFacts, showModels } from "./sheet";
import { FULL, RAPID, type Schedule } from "./timing";
import { notify, showCard, showChip, showLegend, showLive, showProgress } from "./view";

declare const __RUNTIME_FILES__: string;

let camera: Camera | null = null;
let current: Trial | null = null;
let bench: Bench | null = null;
const client = new Client(({ text, share }) => {
  showProgress(text, share);
  bench?.progress(text, share);
});
const live = new Live(client, (error) => notify(String(error instanceof Error ? error.message : error), true));

/** From nothing to a live picture; every way to fail ends in a card that says what to do. */
async function begin(): Promise<void> {
  showCard({ title: "Starting", text: "Fetching the model" }, "starting");
  const device = await deviceFacts();
  const asked = new URLSearchParams(location.search).get("threads");
  const threads = threadsFor(device.cores ?? undefined, device.isolated, Number(asked));
  let started: Started;
  try {
    const listing = (await (await fetch("/files.json")).json()) as Listing;
    const runtimeFiles = new URL(__RUNTIME_FILES__, location.href).href;
    const large = hasLarge(listing.files);
    started = await client.call("start", { variants: listing.variants, runtimeFiles, large, threads });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return showCard({ title: "The model did not load", text, button: again() }, "failed");
  }
  bench = new Bench(client, live, started, device);
  expose({ started });
  current = choose(started.trials);
  if (!current) return showCard(noneCard(started), "failed");
  describe(started, current);
  const facts = (offline: string) => showFacts(device, started.bundles[0], threads, offline);
  facts("getting ready");
  void keepOffline().then((offline) => {
    facts(offline);
    expose({ offline });
  });
  await startCamera(null);
}

function again() {
  return { text: "Try again", click: () => location.reload() };
}

/** No model may run: a wrong mask is worse than none. */
function noneCard({ trials }: Started) {
  return {
    title: "No model passed its check",
    text: "Before it is used, each model must give the masks of its golden frames on this very device.",
    steps: trials.map(({ key, refused }) => `${key.toUpperCase()}: ${refused}`),
    button: again(),
  };
}

function describe(started: Started, chosen: Trial): void {
  current = chosen;
  showChip(chosen, started.trials);
  showLegend(started.bundles[0].classes);
  $("model-note").textContent = modelNote(started.bundles);
  $("bench-note").textContent = NOTE;
  showModels(started.trials, chosen, (trial) => void use(started, trial));
  const refused = started.trials.find((t) => t.refused !== null && t.provider === "wasm");
  if (refused) notify(`${refused.precision.toUpperCase()} is not used: ${refused.refused}`, true);
}

async function use(started: Started, trial: Trial): Promise<void> {
  await client.call("use", { key: trial.key });
  current = trial;
  live.reset();
  showChip(trial, started.trials);
  showModels(started.trials, trial, (other) => void use(started, other));
}

async function startCamera(deviceId: string | null): Promise<void> {
  camera?.stream.getTracks().forEach((track) => track.stop());
  live.pause();
  try {
    camera = await openCamera(deviceId);
    await live.begin(camera.stream, camera.mirror);
  } catch (error) {
    const button = { text: "Try again", click: () => void startCamera(null) };
    return showCard({ ...cameraCard(error), button }, "failed");
  }
  camera.stream.getVideoTracks()[0].onended = () => void startCamera(null);
  freeze(false);
  $("torch-row").hidden = !hasLamp(camera.stream);
  $<HTMLInputElement>("torch").checked = false;
  showLive();
  live.fit();
  showCameras(await cameras(), camera.deviceId);
}

async function flip(): Promise<void> {
  const next = nextCamera(await cameras(), camera?.deviceId ?? null);
  if (next) await startCamera(next);
}

function freeze(on: boolean): void {
  if (on !== live.frozen) live.freeze(on);
  $("freeze").setAttribute("aria-pressed", String(live.frozen));
}

function alpha(): number {
  return Number($<HTMLInputElement>("alpha").value) / 100;
}

function showAlpha(): void {
  $("mask").style.opacity = String(alpha());
  $("alpha-value").textContent = `${Math.round(alpha() * 100)} %`;
  localStorage.setItem("alpha", $<HTMLInputElement>("alpha").value);
}

async function snapshot(): Promise<void> {
  if (!live.last) return notify("There is no mask yet");
  download(await picture(live.last, alpha()), `edge-unet-${stamp(new Date())}.png`);
  notify("Snapshot saved");
}

async function measure(schedule: Schedule): Promise<void> {
  try {
    await bench?.run(schedule);
  } catch (error) {
    notify(`The benchmark stopped: ${error instanceof Error ? error.message : String(error)}`, true);
  }
}

/** The screen must not go dark in the middle of a scene. */
async function stayAwake(): Promise<void> {
  if (!document.hidden) await navigator.wakeLock?.request("screen").catch(() => null);
}

function wire(): void {
  readySheet();
  offerInstall();
  $("more").onclick = $("chip").onclick = openSheet;
  $("freeze").onclick = () => freeze(!live.frozen);
  $("flip").onclick = () => void flip();
  $("snapshot").onclick = () => void snapshot();
  $("hide").onclick = () => {
    const hidden = $("mask").classList.toggle("off");
    $("hide").setAttribute("aria-pressed", String(hidden));
  };
  $("bench-rapid").onclick = () => void measure(RAPID);
  $("bench-full").onclick = () => void measure(FULL);
  $("bench-save").onclick = () => bench?.save();
  $("together").onchange = () => (live.together = $<HTMLInputElement>("together").checked);
  $("camera").onchange = () => void startCamera($<HTMLSelectElement>("camera").value);
  $<HTMLInputElement>("alpha").value = localStorage.getItem("alpha") ?? "45";
  $("alpha").oninput = showAlpha;
  $("torch").onchange = () => {
    const on = $<HTMLInputElement>("torch").checked;
    if (camera) void setLamp(camera.stream, on).catch((error: Error) => notify(error.message, true));
  };
  $<HTMLVideoElement>("video").onresize = () => live.fit();
  addEventListener("resize", () => live.fit());
  document.addEventListener("visibilitychange", () => void stayAwake());
  showAlpha();
  void stayAwake();
}

/** For tests and the browser's console: what the page knows. */
function expose(found: object): void {
  const holder = window as unknown as { edgeUnet: Record<string, unknown> };
  holder.edgeUnet = Object.assign(holder.edgeUnet ?? { live, measure, report: () => bench?.report }, found);
}

expose({ model: () => current });
wire();
void begin();
