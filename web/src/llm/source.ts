/** Where the files of a model come from: an address, files that a person picked, or (in Node) a folder. */
import { RuvllmError } from "../errors.js";
import { bring, fetchText, Heap, type Sha256 } from "./fetch.js";
import { badModel, checkConverted, MANIFEST, type ModelFile } from "./manifest.js";
import { ModelStore } from "./store.js";

/** Reads the files of one model. */
export interface ModelSource {
  readonly name: string;
  /** Whether this browser has the files for later visits. */
  readonly kept: boolean;
  manifest(): Promise<string>;
  /** How many bytes of a file need not be fetched. */
  has(file: ModelFile): Promise<number>;
  /** A whole file, checked. `came` hears how many of its bytes are there. */
  read(file: ModelFile, sha256: Sha256, came: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>>;
  /** So many bytes more will be fetched. */
  reserve?(bytes: number): Promise<void>;
  /** All files have come. */
  settle(files: readonly ModelFile[]): Promise<void>;
}

/** Files that cannot be other than the manifest says. */
async function checked(data: Uint8Array<ArrayBuffer>, file: ModelFile, sha256: Sha256): Promise<Uint8Array<ArrayBuffer>> {
  if (data.length === file.bytes && (await sha256(data)) === file.sha256) return data;
  throw badModel(`${file.name} is not the file that the manifest names: its SHA-256 or size differs`, file.name, "copy the folder again");
}

/** A person's own files. */
export class PickedSource implements ModelSource {
  readonly name: string;
  readonly kept = false;
  readonly #files: Map<string, File>;

  constructor(files: readonly File[]) {
    this.#files = new Map(files.map((file) => [file.name, file]));
    const path = this.#files.get(MANIFEST)?.webkitRelativePath ?? "";
    this.name = path.split("/").at(-2) ?? "picked";
  }

  async manifest(): Promise<string> {
    const file = this.#files.get(MANIFEST);
    if (file) return file.text();
    for (const name of this.#files.keys()) checkConverted(name);
    const fix = "pick the folder that `ruvllm models convert` wrote";
    throw new RuvllmError(`there is no ${MANIFEST} among the files`, { name: "ArtifactError", field: "files", fix });
  }

  async has(file: ModelFile): Promise<number> {
    return this.#files.has(file.name) ? file.bytes : 0;
  }

  async read(file: ModelFile, sha256: Sha256, came: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
    const picked = this.#files.get(file.name);
    if (!picked) throw badModel(`${file.name} was not picked`, file.name, "pick the whole folder");
    if (picked.size !== file.bytes) throw badModel(`${file.name} has ${picked.size} bytes, not ${file.bytes}`, file.name, "copy the folder again");
    const data = await checked(new Uint8Array(await picked.arrayBuffer()), file, sha256);
    came(file.bytes);
    return data;
  }

  async settle(): Promise<void> {
    // nothing is kept: a browser cannot open the files of another visit
  }
}

/** A folder on a server, kept in this browser once it has come. */
export class UrlSource implements ModelSource {
  readonly name: string;
  readonly #base: URL;
  readonly #signal: AbortSignal | undefined;
  #store: ModelStore | null;
  #manifest = "";

  private constructor(base: URL, store: ModelStore | null, signal?: AbortSignal) {
    this.#base = base;
    this.#store = store;
    this.#signal = signal;
    this.name = decodeURIComponent(base.pathname.split("/").at(-2) ?? "") || base.hostname;
  }

  static async open(base: URL, sha256: Sha256, signal?: AbortSignal): Promise<UrlSource> {
    const key = await sha256(new TextEncoder().encode(base.href));
    return new UrlSource(base, await ModelStore.open(key.slice(0, 32)), signal);
  }

  get kept(): boolean {
    return this.#store !== null;
  }

  /** The server's; without a network the one that was kept. */
  async manifest(): Promise<string> {
    try {
      this.#manifest = await fetchText(new URL(MANIFEST, this.#base), this.#signal);
    } catch (error) {
      this.#signal?.throwIfAborted();
      const kept = await this.#store?.text(MANIFEST);
      if (!kept) throw error;
      this.#manifest = kept;
    }
    return this.#manifest;
  }

  async has(file: ModelFile): Promise<number> {
    return (await this.#store?.has(file)) ?? 0;
  }

  /** There is room for so many bytes more, or nothing is kept. */
  async reserve(bytes: number): Promise<void> {
    const { quota, usage = 0 } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
    if (quota !== undefined && quota - usage < bytes) this.#store = null;
  }

  async read(file: ModelFile, sha256: Sha256, came: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
    const kept = await this.#store?.read(file);
    if (kept) {
      came(file.bytes);
      return kept;
    }
    const url = new URL(file.name, this.#base);
    if (!this.#store) return bring(url, file, new Heap(file.bytes), sha256, came, this.#signal);
    const part = await this.#store.part(file);
    try {
      const data = await bring(url, file, part, sha256, came, this.#signal);
      await part.finish();
      return data;
    } finally {
      part.close();
    }
  }

  async settle(files: readonly ModelFile[]): Promise<void> {
    await this.#store?.dropOthers(files, [MANIFEST]);
    await this.#store?.keepText(MANIFEST, this.#manifest);
  }
}
