/** Where the built files lie, and how they are read and checked. */
import { RuvllmError } from "./errors.js";
import type { LoadProgress, Stage } from "./types.js";

/** What to do where the built folder is not where it was looked for. */
export const SET_BASE = "set `baseURL` to the built folder, which `npx ruvllm copy public/ruvllm` or `make web` writes";

/** One file of the built folder. */
export interface FileEntry {
  bytes: number;
  sha256: string;
  /** The stage of loading it belongs to; none for what is fetched only on demand. */
  stage?: Stage;
}

/** `ruvllm.json`, the one file of the built folder whose name says nothing of its content. */
export interface SiteIndex {
  version: string;
  /** Of everything: two builds that differ anywhere differ here. */
  build: string;
  worker: string;
  /** Folder of the Pyodide core, with a slash at its end. */
  pyodide: string;
  lock: string;
  /** Wheels and zips to unpack before the first route, in this order. */
  packages: string[];
  /** onnxruntime-web: the module to import, and the two files it is told of. */
  ort: { module: string; mjs: string; wasm: string };
  /** For a language model, fetched when one is loaded: its worker, jinja2, and the onnxruntime-web that knows WebGPU. */
  llm: {
    worker: string;
    jinja: string;
    webgpu: { module: string; mjs: string; wasm: string };
    /** Language models that the site brings; fetched when somebody asks for one, and never kept ahead of that. */
    models?: { name: string; place: string; bytes: number }[];
  };
  /** Artifact name to file. */
  artifacts: Record<string, string>;
  files: Record<string, FileEntry>;
}

/** The built folder, on a server or on a disk. */
export interface Site {
  readonly index: SiteIndex;
  /** What `import()` takes for a file. */
  module(file: string): string;
  /** What Pyodide takes for a file or folder: a URL in a browser, a path in Node. */
  place(file: string): string;
  /** The whole file, unchecked. */
  read(file: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Keep a checked file where `keepOffline` will look for it. */
  keep?(file: string, data: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** Counts the bytes of each stage and tells whoever asked. */
export class Ledger {
  readonly #loaded = new Map<string, number>();
  readonly #listen: ((progress: LoadProgress) => void) | undefined;
  #files: Record<string, FileEntry> = {};

  constructor(listen?: (progress: LoadProgress) => void) {
    this.#listen = listen;
  }

  /** The files to count, once they are known. */
  open(files: Record<string, FileEntry>): void {
    this.#files = files;
  }

  /** Whether a file is counted. */
  knows(file: string): boolean {
    return this.#files[file]?.stage !== undefined;
  }

  /** So much more of a file has come. */
  add(file: string, bytes: number): void {
    const entry = this.#files[file];
    if (!entry?.stage || bytes === 0) return;
    const before = this.#loaded.get(file) ?? 0;
    const now = Math.min(entry.bytes, before + bytes);
    if (now === before) return;
    this.#loaded.set(file, now);
    this.#tell(entry.stage, entry.stage === "ruvltra" ? 1 : 0);
  }

  /** Everything of a stage has come and works. */
  finish(stage: Stage): void {
    for (const [file, entry] of Object.entries(this.#files)) {
      if (entry.stage === stage) this.#loaded.set(file, entry.bytes);
    }
    this.#tell(stage, 0);
  }

  /** `held` bytes stay back until the stage is finished, so that all of it means that it works. */
  #tell(stage: Stage, held: number): void {
    if (!this.#listen) return;
    let [loaded, total] = [0, 0];
    for (const [file, entry] of Object.entries(this.#files)) {
      const counts = stage === "ready" ? entry.stage && entry.stage !== "ruvltra" : entry.stage === stage;
      if (!counts) continue;
      total += entry.bytes;
      loaded += this.#loaded.get(file) ?? 0;
    }
    this.#listen({ stage, loaded: Math.max(0, Math.min(loaded, total - held)), total });
  }
}

/** SHA-256 as hex, or null where the page has no `crypto.subtle` (plain http). */
export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string | null> {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return null;
  const digest = new Uint8Array(await subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** SHA-256 in some other way, for a page without `crypto.subtle`. */
export type Digest = (data: Uint8Array) => string;

/** A file, checked against the size and digest that the index gives. */
export async function readChecked(site: Site, file: string, byHand: () => Promise<Digest>): Promise<Uint8Array<ArrayBuffer>> {
  const entry = site.index.files[file];
  const fix = "build the folder again (`make web`) and serve all of it";
  const wrong = (what: string): RuvllmError =>
    new RuvllmError(`${file} ${what}`, { name: "ArtifactError", field: file, fix });
  if (entry === undefined) throw wrong("is not in the index");
  const data = await site.read(file);
  if (data.length !== entry.bytes) throw wrong(`has ${data.length} bytes, not ${entry.bytes}: truncated`);
  const digest = (await sha256(data)) ?? (await byHand())(data);
  if (digest !== entry.sha256) throw wrong("is not the file that the index names: its SHA-256 differs");
  return data;
}

/** The artifacts of a stage of loading, by name. */
export async function readArtifacts(site: Site, stage: Stage, byHand: () => Promise<Digest>): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const found = Object.entries(site.index.artifacts).filter(([, file]) => site.index.files[file]?.stage === stage);
  return new Map(
    await Promise.all(found.map(async ([name, file]) => [name, await readChecked(site, file, byHand)] as const)),
  );
}

/** The index, if it is one. */
export function parseIndex(text: string, where: string): SiteIndex {
  try {
    const index = JSON.parse(text) as Partial<SiteIndex>;
    if (index.pyodide && index.packages && index.artifacts && index.files) return index as SiteIndex;
  } catch {
    // told below: a server's error page is no JSON either
  }
  throw new RuvllmError(`${where} is not the index of a ruvllm folder`, { name: "ConfigError", field: "baseURL", fix: SET_BASE });
}
