import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const runtime = fileURLToPath(new URL("./node_modules/onnxruntime-web/", import.meta.url));
const { version } = JSON.parse(readFileSync(`${runtime}package.json`, "utf8")) as { version: string };
const folder = `runtime/${version}/`;
/** WASM alone, and the build with WebGPU and WebNN; each is fetched only where it is used. */
const files = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"].flatMap((n) => [`${n}.mjs`, `${n}.wasm`]);

/** The runtime's own files, under an address that changes with its version. */
const runtimeFiles: Plugin = {
  name: "onnxruntime-web-files",
  apply: "build",
  generateBundle() {
    for (const name of files) {
      this.emitFile({ type: "asset", fileName: folder + name, source: readFileSync(`${runtime}dist/${name}`) });
    }
  },
};

const define = { __RUNTIME_FILES__: JSON.stringify(`/${folder}`) };
/** The runtime must not be bundled with its .wasm: threads start from its own .mjs. */
const resolve = { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "import", "default"] };

export default defineConfig({
  define,
  resolve,
  plugins: [runtimeFiles],
  worker: { format: "es" },
  build: {
    outDir: "../../edge_unet/segment/web/page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { main: "index.html", sw: "src/sw.ts" },
      output: {
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
});
