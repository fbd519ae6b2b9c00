/** The library: modules for pages (ruvllm.js, element.js), for Node (node.js, cli.js, vite.js), integrations, workers. */
import { defineConfig } from "vite";

export default defineConfig({
  publicDir: false,
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: false, // build/web.py keeps the runtime and the models there
    sourcemap: false,
    minify: true,
    lib: {
      formats: ["es"],
      entry: {
        ruvllm: "src/index.ts",
        element: "src/element.ts",
        node: "src/node.ts",
        cli: "src/cli.ts",
        vite: "src/vite.ts",
        aqe: "src/integrations/aqe.ts",
        agentdb: "src/integrations/agentdb.ts",
        worker: "src/worker.ts",
        "model-worker": "src/llm/worker.ts",
      },
    },
    rolldownOptions: {
      external: [/^node:/],
      output: {
        entryFileNames: (chunk) => (chunk.name.endsWith("worker") ? "[name]-[hash].js" : "[name].js"),
        chunkFileNames: "[name]-[hash].js",
      },
    },
  },
});
