/** ONNX Runtime in the browser: WASM with threads and SIMD always, WebGPU and WebNN where the browser has them. */

import type * as Ort from "onnxruntime-web";
import type { Provider } from "./choose";
import type { TensorSpec } from "./manifest";
import type { Values } from "./tensors";

type Runtime = typeof Ort;

export interface Session {
  /** Name, version and how it computes. */
  runtime: string;
  run(feed: Values): Promise<Values>;
  release(): Promise<void>;
}

/**
 * Threads of the WASM runtime: half the cores, at most 4, as phones pair fast cores with slow ones. `asked` (the page's
 * ?threads=2) goes before that, up to the number of cores.
 */
export function threadsFor(cores: number | undefined, isolated: boolean, asked = 0): number {
  if (!isolated) return 1;
  if (Number.isInteger(asked) && asked > 0) return Math.min(asked, cores ?? 1);
  return Math.max(1, Math.min(4, Math.ceil((cores ?? 1) / 2)));
}

/** What this browser offers, WASM first; `large`: the server has the build with WebGPU and WebNN, a wheel has not. */
export async function providers(large: boolean): Promise<Provider[]> {
  const found: Provider[] = ["wasm"];
  if (!large) return found;
  const browser = navigator as Navigator & {
    gpu?: { requestAdapter(): Promise<unknown> };
    ml?: { createContext(options?: object): Promise<unknown> };
  };
  if (await browser.gpu?.requestAdapter().catch(() => null)) found.push("webgpu");
  if (await browser.ml?.createContext().catch(() => null)) found.push("webnn");
  return found;
}

/** Whether the files of a server hold the build with WebGPU and WebNN. */
export function hasLarge(files: readonly string[]): boolean {
  return files.some((file) => file.endsWith(".asyncify.wasm"));
}

const loaded = new Map<string, Promise<Runtime>>();

/** The small WASM-only build, or the large one with every provider; each is fetched when it is first asked for. */
function load(provider: Provider, files: string, threads: number): Promise<Runtime> {
  const build = provider === "wasm" ? "wasm" : "gpu";
  let runtime = loaded.get(build);
  if (!runtime) {
    runtime = (build === "wasm" ? import("onnxruntime-web/wasm") : import("onnxruntime-web/webgpu")).then((found) => {
      const ort = found as unknown as Runtime;
      ort.env.wasm.numThreads = threads;
      ort.env.wasm.wasmPaths = files;
      ort.env.logLevel = "error";
      return ort;
    });
    loaded.set(build, runtime);
  }
  return runtime;
}

/** Open a model. `files` is the folder of the runtime's own files. */
export async function open(
  model: Uint8Array,
  provider: Provider,
  input: TensorSpec,
  output: TensorSpec,
  files: string,
  threads: number,
): Promise<Session> {
  const ort = await load(provider, files, threads);
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  const how = provider === "wasm" ? `wasm, ${threads} thread${threads === 1 ? "" : "s"}` : provider;
  return {
    runtime: `onnxruntime-web ${ort.env.versions.web ?? ort.env.versions.common} ${how}`,
    async run(feed) {
      const tensor = new ort.Tensor(input.dtype as "float32", feed as Float32Array, input.shape);
      const found = await session.run({ [input.name]: tensor }, [output.name]);
      return (await found[output.name].getData()) as Values;
    },
    release: () => session.release(),
  };
}
