/** A plugin of Vite: serves the built folder while developing, and lays it beside what is built. */
import { readFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type BuiltFile, builtFiles } from "./files.js";

const TYPES: Record<string, string> = {
  css: "text/css", html: "text/html", js: "text/javascript", json: "application/json", mjs: "text/javascript",
  svg: "image/svg+xml", txt: "text/plain", wasm: "application/wasm",
};

/** As much of Vite as is needed here, so that its version does not matter. */
interface Server {
  middlewares: { use(handle: (request: IncomingMessage, response: ServerResponse, next: () => void) => void): unknown };
}
interface Emitting {
  emitFile(file: { type: "asset"; fileName: string; source: Uint8Array }): string;
}

/**
 * Put it into `plugins` of vite.config: `RuvLLM.load()` and `<ruvllm-router>` then find their files by themselves.
 *
 * @param options `path` is the folder below Vite's `base`
 */
export default function ruvllm({ path = "ruvllm" }: { path?: string } = {}) {
  const folder = `${path.replace(/^\/+|\/+$/g, "")}/`;
  let base = "/";
  let files: BuiltFile[] | undefined;
  const serve = ({ middlewares }: Server): void => {
    middlewares.use((request, response, next) => {
      const wanted = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
      const name = [base, "/"].map((start) => start + folder).find((start) => wanted.startsWith(start));
      if (name === undefined) return next();
      void (async () => {
        files ??= await builtFiles();
        const found = files.find((file) => file.name === wanted.slice(name.length));
        if (!found) return next();
        const type = TYPES[found.name.split(".").pop() ?? ""] ?? "application/octet-stream";
        response.setHeader("Content-Type", type).end(await readFile(found.path));
      })().catch(next);
    });
  };
  return {
    name: "ruvllm",
    // Vite would copy the library elsewhere while developing; it is whole as it is.
    config: () => ({ optimizeDeps: { exclude: ["ruvllm"] } }),
    configResolved(config: { base: string }): void {
      base = config.base;
    },
    transformIndexHtml() {
      const content = (base === "" ? "./" : base) + folder;
      return [{ tag: "meta", attrs: { name: "ruvllm-base", content }, injectTo: "head" as const }];
    },
    configureServer: serve,
    async generateBundle(this: Emitting): Promise<void> {
      for (const { name, path } of await builtFiles()) {
        this.emitFile({ type: "asset", fileName: folder + name, source: await readFile(path) });
      }
    },
  };
}
