import { expect, it } from "vitest";
import type { Trial } from "../src/choose";
import type { DeviceFacts } from "../src/device";
import type { BundleFacts, Started, Timings } from "../src/protocol";
import { buildReport } from "../src/result";
import { RAPID } from "../src/timing";

const device: DeviceFacts = {
  userAgent: "UA", os: "Android 14", machine: "aarch64", model: "Phone", browser: { Chromium: "150" }, cores: 8,
  isolated: true, power: "battery",
};
const bundle = (precision: string): BundleFacts => ({
  name: "endoscopy", precision, target: "onnx", sha256: precision.repeat(16), classes: { names: [], palette: [] },
  preprocess: {} as BundleFacts["preprocess"],
});
const trial = (precision: Trial["precision"], refused: string | null): Trial => ({
  key: `${precision} wasm`, precision, provider: "wasm", runtime: "onnxruntime-web 1.30.0 wasm, 4 threads",
  golden: refused ? 0.5 : 1, p50_ms: refused ? null : 5, p90_ms: refused ? null : 6, refused,
});
const samples = (scope: "model" | "end") => ({
  label: "int8 wasm", warmup_runs: 10, total_ns: [3, 1, 2], spent_ns: 9,
  stage_ns: scope === "model" ? [[], [], []] : [[1, 9, 1, 1], [1, 8, 1, 1], [1, 7, 1, 1]],
});
const timings: Timings = {
  model: { samples: [samples("model")], burst_order: ["int8 wasm"] },
  endToEnd: { samples: [samples("end")], burst_order: ["int8 wasm"] },
  frame: { width: 640, height: 480 },
};
const started: Started = {
  trials: [trial("int8", null), trial("fp32", "wrong mask")], bundles: [bundle("int8"), bundle("fp32")], threads: 4,
};

/* eslint-disable-next-line */
const made = buildReport(started, device, { schedule: RAPID, timings, created: new Date(0), hidden: false }) as any;

it("carries every sample, its quantiles and its subject", () => {
  const [model, whole] = made.measurements;
  expect([model.scope, whole.scope]).toEqual(["model", "end_to_end"]);
  expect([model.samples_ns, model.p50_ns, model.p90_ns, model.mean_ns]).toEqual([[3, 1, 2], 2, 3, 2]);
  expect([model.target, model.precision, model.artifact_sha256]).toEqual(["onnx", "int8", "int8".repeat(16)]);
  expect(model.stage_ns).toBeNull();
  expect(whole.stage_ns.infer).toEqual({ p50_ns: 8, p90_ns: 9 });
  expect(made.burst_order).toEqual(["endoscopy onnx int8"]);
});

it("says why a refused precision has no figures", () => {
  expect(made.not_measured).toEqual([{ target: "onnx", precision: "fp32", reason: "wrong mask" }]);
  expect(made.notes.join("\n")).toContain("fp32 wasm: refused, wrong mask.");
});

it("tells what the browser tells and nothing else", () => {
  expect(made.environment).toEqual({
    device: "browser", os: "Android 14", machine: "aarch64", cores_used: 8, threads: 4, power_mode: "battery",
    packages: { "onnxruntime-web": "1.30.0", Chromium: "150" }, warnings: [],
  });
  expect(made.created).toBe("1970-01-01T00:00:00.000Z");
});

it("warns of one thread and of a hidden page", () => {
  const run = { schedule: RAPID, timings, created: new Date(0), hidden: true };
  const alone = buildReport(started, { ...device, isolated: false }, run) as typeof made;
  expect(alone.environment.warnings.length).toBe(2);
});
