/** Brings a model's files over the network, goes on where it stopped, and checks what came. */
import { RuvllmError } from "../errors.js";
import type { ModelFile } from "./manifest.js";
import { badModel } from "./manifest.js";
import type { Part } from "./store.js";

const WAITS = [500, 3_000]; // milliseconds before another attempt

/** Where the bytes of a file gather: on disk, or in memory where there is no disk. */
export type Gathering = Pick<Part, "size" | "add" | "clear" | "bytes">;

/** In memory. */
export class Heap implements Gathering {
  #data: Uint8Array<ArrayBuffer>;
  size = 0;

  constructor(bytes: number) {
    this.#data = new Uint8Array(bytes);
  }

  add(data: Uint8Array): void {
    if (this.size + data.length <= this.#data.length) this.#data.set(data, this.size);
    this.size += data.length;
  }

  clear(): void {
    this.size = 0;
  }

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#data;
  }
}

export type Sha256 = (data: Uint8Array<ArrayBuffer>) => Promise<string>;

/**
 * A whole file.
 *
 * @param came hears how many bytes there are, after each piece
 * @throws RuvllmError when it cannot be reached, or is not the file that the manifest names
 */
export async function bring(
  url: URL, file: ModelFile, to: Gathering, sha256: Sha256, came: (bytes: number) => void, signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  for (let attempt = 0; ; attempt++) {
    // What stopped half way before this visit may be of another version: only then is a second whole attempt due.
    const resumed = to.size > 0;
    if (to.size < file.bytes) await gather(url, file, to, came, signal);
    const data = to.size === file.bytes ? await to.bytes() : null;
    if (data && (await sha256(data)) === file.sha256) return data;
    to.clear();
    came(0);
    if (!resumed || attempt) {
      throw badModel(`${url.href} is not the file that the manifest names: its SHA-256 or size differs`, file.name, "upload all files of the folder again");
    }
  }
}

/** Add what is missing, with a few attempts at it. */
async function gather(
  url: URL, file: ModelFile, to: Gathering, came: (bytes: number) => void, signal?: AbortSignal,
): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    const before = to.size;
    try {
      return await stream(url, file, to, came, signal);
    } catch (error) {
      signal?.throwIfAborted();
      const wait = WAITS[attempt];
      if (error instanceof RuvllmError || wait === undefined) throw error instanceof RuvllmError ? error : unreachable(url, error);
      if (to.size > before) attempt = -1; // it goes on, if haltingly
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

async function stream(
  url: URL, file: ModelFile, to: Gathering, came: (bytes: number) => void, signal?: AbortSignal,
): Promise<void> {
  const headers: HeadersInit = to.size ? { range: `bytes=${to.size}-` } : {};
  const response = await fetch(url, { headers, cache: "no-store", signal: signal ?? null });
  if (response.status >= 500) throw new Error(`status ${response.status}`);
  if (!response.ok && response.status !== 416) throw missing(url, response.status);
  const goesOn = response.status === 206 && Number(/bytes (\d+)-/.exec(response.headers.get("content-range") ?? `bytes ${to.size}-`)?.[1]) === to.size;
  if (to.size && !goesOn) to.clear();
  if (response.status === 416) return stream(url, file, to, came, signal);
  const reader = response.body?.getReader();
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader?.read()) {
    to.add(piece.value);
    came(Math.min(to.size, file.bytes));
    if (to.size > file.bytes) return void (await reader?.cancel());
  }
  if (to.size < file.bytes && response.headers.get("content-length") === null) throw new Error("it stopped half way");
}

/** A small text. */
export async function fetchText(url: URL, signal?: AbortSignal): Promise<string> {
  let response: Response;
  try {
    response = await fetch(url, { cache: "no-cache", signal: signal ?? null });
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreachable(url, cause);
  }
  if (!response.ok) throw missing(url, response.status);
  return response.text();
}

function unreachable(url: URL, cause: unknown): RuvllmError {
  const other = globalThis.location && url.origin !== globalThis.location.origin;
  const rule = other ? ", that its server allows this page (CORS), and that the page's policy allows it (connect-src)" : "";
  const fix = `check the connection${rule}; loading again goes on where it stopped`;
  return new RuvllmError(`${url.href} cannot be reached`, { name: "FetchError", field: "model", fix, cause });
}

function missing(url: URL, status: number): RuvllmError {
  const fix = "give the address of a folder that `ruvllm models convert` wrote, with all of its files";
  return new RuvllmError(`${url.href}: ${status}`, { name: "FetchError", field: "model", fix });
}
