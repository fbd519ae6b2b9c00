/** Model files in this origin's private file system: fetched in pieces, whole under their final name or not there. */
import { RuvllmError } from "../errors.js";
import type { ModelFile } from "./manifest.js";

const FOLDER = "ruvllm-models";

/** Writes a file that grows; only workers have such. */
interface Growing {
  getSize(): number;
  write(data: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

type Handle = FileSystemFileHandle & { createSyncAccessHandle(): Promise<Growing>; move(name: string): Promise<void> };

/** The kept files of one model. */
export class ModelStore {
  readonly #folder: FileSystemDirectoryHandle;

  private constructor(folder: FileSystemDirectoryHandle) {
    this.#folder = folder;
  }

  /** The place for a model, by its address; null where this browser has none, or too little space. */
  static async open(key: string): Promise<ModelStore | null> {
    try {
      const root = await navigator.storage?.getDirectory?.();
      if (!root || !("createSyncAccessHandle" in FileSystemFileHandle.prototype) || !("move" in FileSystemFileHandle.prototype)) return null;
      const models = await root.getDirectoryHandle(FOLDER, { create: true });
      return new ModelStore(await models.getDirectoryHandle(key, { create: true }));
    } catch {
      return null; // an old browser, a private window, plain http
    }
  }

  /** A small text beside the files. */
  async text(name: string): Promise<string | null> {
    return (await (await this.#file(name))?.text()) ?? null;
  }

  async keepText(name: string, text: string): Promise<void> {
    const stream = await (await this.#folder.getFileHandle(name, { create: true })).createWritable();
    await stream.write(text);
    await stream.close();
  }

  /** How many bytes of a file are here. */
  async has(file: ModelFile): Promise<number> {
    const whole = await this.#file(file.sha256);
    return whole?.size === file.bytes ? file.bytes : ((await this.#file(partOf(file)))?.size ?? 0);
  }

  /** A whole file, or null. */
  async read(file: ModelFile): Promise<Uint8Array<ArrayBuffer> | null> {
    const whole = await this.#file(file.sha256);
    return whole?.size === file.bytes ? new Uint8Array(await whole.arrayBuffer()) : null;
  }

  /** What has come of a file so far, to be added to. */
  async part(file: ModelFile): Promise<Part> {
    const handle = (await this.#folder.getFileHandle(partOf(file), { create: true })) as Handle;
    return new Part(handle, await handle.createSyncAccessHandle(), file);
  }

  /** Remove what belongs to no file of the list: an older version's. */
  async dropOthers(files: readonly ModelFile[], names: readonly string[]): Promise<void> {
    const kept = new Set([...files.flatMap((file) => [file.sha256, partOf(file)]), ...names]);
    const all: string[] = [];
    for await (const name of this.#folder.keys()) if (!kept.has(name)) all.push(name);
    for (const name of all) await this.#folder.removeEntry(name).catch(() => undefined);
  }

  async #file(name: string): Promise<File | null> {
    try {
      return await (await this.#folder.getFileHandle(name)).getFile();
    } catch {
      return null;
    }
  }
}

function partOf(file: ModelFile): string {
  return `${file.sha256}.part`;
}

/** The beginning of a file, on its way to being all of it. */
export class Part {
  readonly #handle: Handle;
  readonly #growing: Growing;
  readonly #file: ModelFile;
  #open = true;

  constructor(handle: Handle, growing: Growing, file: ModelFile) {
    this.#handle = handle;
    this.#growing = growing;
    this.#file = file;
  }

  get size(): number {
    return this.#growing.getSize();
  }

  add(data: Uint8Array): void {
    try {
      if (this.#growing.write(data, { at: this.size }) === data.length) return;
    } catch (cause) {
      throw noSpace(cause);
    }
    throw noSpace(undefined);
  }

  /** Start anew. */
  clear(): void {
    this.#growing.truncate(0);
  }

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    this.#growing.flush();
    return new Uint8Array(await (await this.#handle.getFile()).arrayBuffer());
  }

  /** It is the whole file: give it its name. */
  async finish(): Promise<void> {
    this.close();
    await this.#handle.move(this.#file.sha256);
  }

  /** Leave it for another time. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#growing.flush();
    this.#growing.close();
  }
}

function noSpace(cause: unknown): RuvllmError {
  const fix = "free some space, or pick the model's folder from your disk";
  return new RuvllmError("this browser gives the page no more space", { name: "StoreError", field: "model", fix, cause });
}
