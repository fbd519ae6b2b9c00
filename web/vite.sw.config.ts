/** The service worker: a classic script at a name that never changes, since a browser compares it by its address. */
import { defineConfig } from "vite";

export default defineConfig({
  publicDir: false,
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: false,
    rolldownOptions: {
      input: "src/offline/sw.ts",
      output: { format: "iife", entryFileNames: "sw.js" },
    },
  },
});
