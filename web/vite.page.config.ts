/** The playground page, laid into the same folder as the library, so that everything is relative to it. */
import { defineConfig } from "vite";

export default defineConfig({
  root: "playground",
  base: "./",
  publicDir: "public", // what browsers and others look for under a lasting name
  build: {
    target: "es2022",
    outDir: "../dist",
    emptyOutDir: false,
    assetsDir: "",
    assetsInlineLimit: 0, // a data: URL would break the page's policy
    modulePreload: { polyfill: false },
  },
});
