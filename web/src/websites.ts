/** The built folder on a server, seen from a page or a worker. */
import { RuvllmError } from "./errors.js";
import { type Ledger, parseIndex, SET_BASE, type Site, type SiteIndex } from "./site.js";

const FIX = "check the connection, and that all of the built folder is served";

/** Fetch or say what could not be fetched. */
async function fetched(url: URL, init?: RequestInit, fix = FIX): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (cause) {
    throw new RuvllmError(`${url.href} cannot be reached`, { name: "FetchError", field: "baseURL", fix, cause });
  }
  if (response.ok) return response;
  throw new RuvllmError(`${url.href}: ${response.status}`, { name: "FetchError", field: "baseURL", fix });
}

/**
 * The built folder: as asked for, as the page says by `<meta name="ruvllm-base" content="/ruvllm/">`, or the one that
 * the calling module came from.
 *
 * @param module the caller's `import.meta.url`: a bundler may have left none, or a path on the disk it ran on
 */
export function builtFolder(asked: string | URL | undefined, module: string | undefined): URL {
  const said = asked ?? globalThis.document?.querySelector<HTMLMetaElement>('meta[name="ruvllm-base"]')?.content;
  if (said) return folder(said);
  if (module && URL.canParse("./", module)) {
    const near = new URL("./", module);
    if (near.protocol !== "file:" || globalThis.location?.protocol === "file:") return folder(near);
  }
  throw new RuvllmError("a bundler has moved ruvllm away from its files", { name: "ConfigError", field: "baseURL", fix: SET_BASE });
}

/** A folder's URL ends with a slash. */
export function folder(base: string | URL): URL {
  const url = new URL(base, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  url.search = url.hash = "";
  return url;
}

/**
 * The folder's index; its name never changes, so the cache is asked whether it is still the same. A page outside the
 * folder is not answered by its service worker: without a network it finds what `keepOffline` has kept by itself.
 */
export async function fetchIndex(base: URL): Promise<SiteIndex> {
  const url = new URL("ruvllm.json", base);
  const response = await fetched(url, { cache: "no-cache" }, `check the connection, or ${SET_BASE}`).catch(async (error: unknown) => {
    const kept = await globalThis.caches?.match(url, { ignoreVary: true }).catch(() => undefined);
    if (kept) return kept;
    throw error;
  });
  return parseIndex(await response.text(), url.href);
}

/** The built folder under a URL. */
export class WebSite implements Site {
  readonly index: SiteIndex;
  readonly #base: URL;
  readonly #offline: boolean;

  constructor(base: URL, index: SiteIndex, offline = false) {
    this.#base = base;
    this.index = index;
    this.#offline = offline;
  }

  module(file: string): string {
    return new URL(file, this.#base).href;
  }

  place(file: string): string {
    return this.module(file);
  }

  async read(file: string): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await (await fetched(new URL(file, this.#base))).arrayBuffer());
  }

  async keep(file: string, data: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.#offline) return;
    const url = new URL(file, this.#base);
    try {
      const cache = await globalThis.caches?.open(`ruvllm-${this.index.build}`); // as offline/fill.ts calls it
      if (cache && !(await cache.match(url))) await cache.put(url, new Response(data));
    } catch {
      // no place, or no space: it will be fetched once more
    }
  }
}

/**
 * Let this worker's `fetch` count what it loads of the folder, Pyodide's own loading included.
 * A `.wasm` response stays as it is: the browser keeps compiled code only for a response of its own.
 */
export function countFetches(base: URL, ledger: Ledger): void {
  const plain = globalThis.fetch.bind(globalThis);
  globalThis.fetch = async (input, init) => {
    const response = await plain(input, init);
    const url = input instanceof Request ? input.url : String(input);
    const file = url.startsWith(base.href) ? url.slice(base.href.length) : "";
    if (!ledger.knows(file) || file.endsWith(".wasm") || !response.ok || !response.body) return response;
    const counter = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        ledger.add(file, chunk.length);
        controller.enqueue(chunk);
      },
    });
    const { status, statusText, headers } = response;
    return new Response(response.body.pipeThrough(counter), { status, statusText, headers });
  };
}
