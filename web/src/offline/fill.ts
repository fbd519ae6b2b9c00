/** Fills the cache of one version with every file of the built folder, each checked against the index. */
import { type FileEntry, parseIndex, sha256, type SiteIndex } from "../site.js";
import type { OfflineReason } from "./messages.js";

/** The caches of all versions; `ruvllm-snapshot` is none of them. */
export const VERSIONED = /^ruvllm-[0-9a-f]{16}$/;
const INDEX = "ruvllm.json";
const STAGES = [undefined, "python", "packages", "static", "ready", "ruvltra"];

/** A fill that ended before its end. */
export class FillError extends Error {
  readonly reason: OfflineReason;
  readonly fix: string;

  constructor(reason: OfflineReason, message: string, fix: string) {
    super(message);
    this.reason = reason;
    this.fix = fix;
  }
}

/** One version of the folder at `base`. */
export class Version {
  readonly cacheName: string;
  readonly #base: string;
  readonly #build: string;

  constructor(base: string, build: string) {
    this.#base = base;
    this.#build = build;
    this.cacheName = `ruvllm-${build}`;
  }

  /** Where a file lies: the page under the folder's own address, since some hosts send `index.html` elsewhere. */
  address(file: string): string {
    return file === "index.html" ? this.#base : this.#base + file;
  }

  /** A kept file. */
  find(file: string, cacheName = this.cacheName): Promise<Response | undefined> {
    return caches.match(this.address(file), { cacheName, ignoreVary: true });
  }

  /** Bring what is missing. The index comes last: where it is, everything is. */
  async fill(tell: (loaded: number, total: number) => void): Promise<void> {
    const index = await this.#index();
    const missing: [string, FileEntry][] = [];
    let [loaded, total] = [0, 0];
    for (const [file, entry] of Object.entries(index.files)) {
      if (onDemand(file, entry)) continue;
      total += entry.bytes;
      if (await this.find(file)) loaded += entry.bytes;
      else missing.push([file, entry]);
    }
    missing.sort(([, a], [, b]) => STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage));
    if (missing.length) await checkSpace(total - loaded);
    for (const [file, entry] of missing) {
      let came = 0;
      await this.#keep(file, await this.#bring(file, entry, (bytes) => tell(loaded + Math.min((came += bytes), entry.bytes), total)));
      loaded += entry.bytes;
      tell(loaded, total);
    }
    if (!(await this.find(INDEX))) await this.#keep(INDEX, new Response(JSON.stringify(index), { headers: { "content-type": "application/json" } }));
  }

  /** A file that is fetched only on demand is kept when it passes, if it is what the index names. */
  async keepPassing(file: string, response: Response): Promise<void> {
    const kept = await this.find(INDEX);
    const entry = kept && ((await kept.json()) as SiteIndex).files[file];
    const copy = response.clone();
    if (entry && (await isFile(await response.arrayBuffer(), entry))) await this.#keep(file, copy);
  }

  /** Give back the space of what a failed fill has brought. */
  async drop(): Promise<void> {
    await dropFiles(this.cacheName, this.#base);
  }

  /** Remove what other versions have kept of this folder. */
  async dropOthers(): Promise<void> {
    for (const name of await others(this.cacheName)) await dropFiles(name, this.#base);
  }

  async #index(): Promise<SiteIndex> {
    const kept = await this.find(INDEX);
    if (kept) return (await kept.json()) as SiteIndex;
    const text = await (await fetched(this.address(INDEX), "no-cache")).text();
    const index = parseIndex(text, this.address(INDEX));
    if (index.build === this.#build) return index;
    throw new FillError("changing", `the server holds build ${index.build}, not ${this.#build}`, "reload in a minute");
  }

  /** From another version's cache, else the browser's own (the page has just loaded it), else the server. */
  async #bring(file: string, entry: FileEntry, came: (bytes: number) => void): Promise<Response> {
    // The page's policy may change without the page, so its headers are never an older version's.
    if (file !== "index.html") {
      for (const name of await others(this.cacheName)) {
        const found = await this.find(file, name);
        if (found && (await isFile(await found.clone().arrayBuffer(), entry))) return found;
      }
    }
    for (const mode of ["default", "reload"] as const) {
      const response = await fetched(this.address(file), mode);
      const kept = response.redirected ? new Response(response.clone().body, { headers: response.headers }) : response.clone();
      if (await isFile(await collect(response, came), entry)) return kept; // a redirected one may not answer a navigation
    }
    throw new FillError("damaged", `${file} is not the file that the index names`, "let the server send files unchanged");
  }

  async #keep(file: string, response: Response): Promise<void> {
    try {
      await (await caches.open(this.cacheName)).put(this.address(file), response);
    } catch (error) {
      throw (error as Error).name === "QuotaExceededError" ? noSpace() : error;
    }
  }
}

/** Wheels that no visit loads until something asks for them. */
function onDemand(file: string, entry: FileEntry): boolean {
  return file.startsWith("packages/") && entry.stage === undefined;
}

async function others(mine: string): Promise<string[]> {
  return (await caches.keys()).filter((name) => VERSIONED.test(name) && name !== mine);
}

/** Another folder of this origin may keep its own files in a cache of the same name. */
async function dropFiles(name: string, base: string): Promise<void> {
  const cache = await caches.open(name);
  for (const request of await cache.keys()) if (request.url.startsWith(base)) await cache.delete(request, { ignoreVary: true });
  if ((await cache.keys()).length === 0) await caches.delete(name);
}

async function checkSpace(needed: number): Promise<void> {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {}; // not every browser says
  if (quota !== undefined && quota - usage < needed) throw noSpace();
}

function noSpace(): FillError {
  return new FillError("space", "this browser gives the page no more space", "free some space, then reload");
}

async function fetched(url: string, cache: RequestCache): Promise<Response> {
  const fix = "check the connection";
  let response: Response;
  try {
    response = await fetch(url, { cache });
  } catch {
    throw new FillError("network", `${url} cannot be reached`, fix);
  }
  if (response.ok) return response;
  throw new FillError("network", `${url}: ${response.status}`, "serve all of the built folder");
}

async function isFile(data: ArrayBuffer, entry: FileEntry): Promise<boolean> {
  return data.byteLength === entry.bytes && (await sha256(new Uint8Array(data))) === entry.sha256;
}

/** All bytes of a response, counted as they come. */
async function collect(response: Response, came: (bytes: number) => void): Promise<ArrayBuffer> {
  const counted = response.body?.pipeThrough(
    new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform(chunk, controller) {
        came(chunk.length);
        controller.enqueue(chunk);
      },
    }),
  );
  try {
    return await new Response(counted ?? null).arrayBuffer();
  } catch {
    throw new FillError("network", `${response.url} stopped half way`, "check the connection");
  }
}
