import { afterEach, describe, expect, it, vi } from "vitest";
import { nextCamera } from "../src/camera";
import { bestOfEach, choose, refusal, type Trial } from "../src/choose";
import { browserOf, machineOf } from "../src/device";
import { Latest } from "../src/latest";
import { checkManifest } from "../src/manifest";
import { meanOf, percentile, Window } from "../src/percentiles";
import { roundHalfEven } from "../src/rounding";
import { hasLarge, providers, threadsFor } from "../src/runtime";
import { stamp } from "../src/save";
import { measure, type Schedule } from "../src/timing";

const trial = (key: string, p50_ms: number | null, refused: string | null = null): Trial => {
  const [precision, provider] = key.split(" ") as [Trial["precision"], Trial["provider"]];
  return { key, precision, provider, runtime: provider, golden: 1, p50_ms, p90_ms: p50_ms, refused };
};

describe("percentiles", () => {
  it("are samples that occurred, by nearest rank", () => {
    const samples = [50, 10, 40, 20, 30];
    expect([percentile(samples, 50), percentile(samples, 90), percentile(samples, 0)]).toEqual([30, 50, 10]);
    expect(percentile([10, 20], 50)).toBe(10);
    expect(samples).toEqual([50, 10, 40, 20, 30]);
    expect(() => percentile([], 50)).toThrow("no samples");
  });
  it("round halves to even, as the host", () => {
    expect([0.5, 1.5, 2.5, -1.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, -2, 2, 3]);
    expect(meanOf([1, 2])).toBe(2);
    expect(meanOf([2, 3])).toBe(2);
  });
  it("of a window forget what is old", () => {
    const window = new Window(3);
    expect([window.percentile(50), window.rate()]).toEqual([null, null]);
    [100, 1, 2, 3].forEach((sample, i) => window.add(sample, i * 500));
    expect(window.percentile(100)).toBe(3);
    expect(window.rate()).toBe(2);
    window.clear();
    expect(window.rate()).toBeNull();
  });
});

describe("latest frame wins", () => {
  it("works on the newest of those that came in, and releases the others", async () => {
    const done: number[] = [];
    const released: number[] = [];
    let open = () => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const work = async (value: number) => void (done.push(value), await gate);
    const latest = new Latest<number>(work, (value) => released.push(value));
    [1, 2, 3, 4].forEach((value) => latest.offer(value));
    open();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect([done, released, latest.dropped]).toEqual([[1, 4], [2, 3], 2]);
    latest.offer(5);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(done).toEqual([1, 4, 5]);
  });
  it("goes on after a frame that failed", async () => {
    const errors: unknown[] = [];
    const done: number[] = [];
    const latest = new Latest<number>(async (value) => {
      if (value === 1) throw new Error("lost");
      done.push(value);
    }, undefined, (error) => errors.push(error));
    latest.offer(1);
    latest.offer(2);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect([done, errors.length]).toEqual([[2], 1]);
  });
});

describe("the choice", () => {
  it("is the fastest that passes", () => {
    const passing = [trial("int8 wasm", 9), trial("fp32 wasm", 12)];
    const trials = [...passing, trial("fp32 webgpu", 3, "wrong"), trial("int8 webnn", null)];
    expect(choose(trials)?.key).toBe("int8 wasm");
    expect(bestOfEach(trials).map(({ key }) => key)).toEqual(["int8 wasm", "fp32 wasm"]);
    expect(choose([trial("int8 wasm", 1, "wrong")])).toBeNull();
  });
  it("refuses below the gate and says by how much", () => {
    expect(refusal(0.999)).toBeNull();
    expect(refusal(0.99899)).toBe("a golden frame agrees in 99.89 % of its pixels, expected at least 99.9 %");
  });
});

describe("timing", () => {
  it("takes turns in bursts, discards their heads and keeps every other sample", async () => {
    let now = 0;
    const order: string[] = [];
    const subject = (label: string, cost: number) => ({
      label, run: async () => (order.push(label), (now += cost), [cost]),
    });
    const schedule: Schedule = { warmup_runs: 2, warmup_ns: 0, runs: 3, limit_ns: 1e12, burst: 2, discarded: 1 };
    const { samples, burst_order } = await measure([subject("a", 1), subject("b", 2)], schedule, undefined, () => now);
    expect(burst_order).toEqual(["a", "b", "a", "b"]);
    expect(order.join("")).toBe("aabb" + "aaa" + "bbb" + "aa" + "bb");
    expect(samples.map((s) => s.total_ns)).toEqual([[1e6, 1e6, 1e6], [2e6, 2e6, 2e6]]);
    expect(samples.map((s) => [s.warmup_runs, s.spent_ns])).toEqual([[2, 5e6], [2, 10e6]]);
    expect(samples[1].stage_ns).toEqual([[2e6], [2e6], [2e6]]);
  });
  it("stops at the limit of a subject's own time", async () => {
    let now = 0;
    const slow = { label: "slow", run: async () => ((now += 600), []) };
    const schedule: Schedule = { warmup_runs: 1, warmup_ns: 0, runs: 100, limit_ns: 1e9, burst: 1, discarded: 0 };
    const { samples } = await measure([slow], schedule, undefined, () => now);
    expect(samples[0].total_ns.length).toBe(2);
  });
});

it("takes threads only where memory can be shared", () => {
  expect([8, 3, 1, undefined].map((cores) => threadsFor(cores, true))).toEqual([4, 2, 1, 1]);
  expect([6, 9, 0, -1, 2.5, NaN].map((asked) => threadsFor(8, true, asked))).toEqual([6, 8, 4, 4, 4, 4]);
  expect([threadsFor(8, false), threadsFor(8, false, 4)]).toEqual([1, 1]);
});

it("goes round the cameras", () => {
  const devices = ["a", "b", "c"].map((deviceId) => ({ deviceId }));
  expect([nextCamera(devices, "a"), nextCamera(devices, "c"), nextCamera(devices, null)]).toEqual(["b", "a", "a"]);
  expect(nextCamera(devices.slice(0, 1), "a")).toBeNull();
});

it("names machines as the kernel does and leaves out made-up brands", () => {
  expect([machineOf("arm", "64"), machineOf("x86", "64"), machineOf("", "")]).toEqual(["aarch64", "x86_64", null]);
  const brands = [{ brand: "Not(A:Brand", version: "8" }, { brand: "Chromium", version: "150.0" }];
  expect(browserOf(brands)).toEqual({ Chromium: "150.0" });
});

it("refuses manifests it cannot run", () => {
  expect(() => checkManifest({ schema_version: 2 }, "here")).toThrow("here: no manifest of version 1");
  const spec = { name: "x", dtype: "float16" };
  const value = { schema_version: 1, preprocess: {}, artifact: { inputs: [spec], outputs: [spec] } };
  expect(() => checkManifest(value, "here")).toThrow("tensor x is float16");
  expect(() => checkManifest({ ...value, artifact: { inputs: [], outputs: [] } }, "here")).toThrow("received 0 and 0");
});

it("stamps files with the user's own time", () => {
  expect(stamp(new Date(2026, 10, 21, 9, 5, 7))).toBe("2026-11-21T09-05-07");
});

describe("providers", () => {
  const gpu = { requestAdapter: async () => ({}) };
  afterEach(() => void vi.unstubAllGlobals());
  it("are what the browser has, where the server has the runtime for it", async () => {
    vi.stubGlobal("navigator", { gpu, ml: { createContext: async () => { throw new Error("none"); } } });
    expect(await providers(true)).toEqual(["wasm", "webgpu"]);
    expect(await providers(false)).toEqual(["wasm"]);
  });
  it("need the large build, which a wheel leaves out", () => {
    const small = ["/index.html", "/runtime/1.0/ort-wasm-simd-threaded.wasm"];
    expect(hasLarge(small)).toBe(false);
    expect(hasLarge([...small, "/runtime/1.0/ort-wasm-simd-threaded.asyncify.wasm"])).toBe(true);
  });
});
