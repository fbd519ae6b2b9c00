/** Where what is learnt stays between visits: a file of this origin (OPFS), or IndexedDB where that cannot be written. */
import { RuvllmError } from "./errors.js";
import type { StateKind } from "./types.js";

/** What one tab tells the others, once it is kept; "state" is any change that they take in by reading all of it again. */
export type StateChange = { kind: "feedback"; text: string; agent: string; weight: number } | { kind: "state" };

/** Keeps the bytes of one SQLite file, which all tabs of an origin share. */
export interface StateStore {
  readonly kind: string;
  load(): Promise<Uint8Array | null>;
  /** Whole or not at all. */
  save(bytes: Uint8Array): Promise<void>;
  /** Keep bytes that cannot be used, rather than write over them. */
  setAside(bytes: Uint8Array): Promise<void>;
  /** Tell the other tabs. */
  tell(change: StateChange): void;
  /** Hear of what other tabs have kept. */
  listen(hear: (change: StateChange) => void): void;
  close(): void;
}

const NAME = "ruvllm.sqlite";
const BROKEN = "ruvllm.broken.sqlite";
const TABLE = "files"; // IndexedDB's object store

const KINDS: readonly string[] = ["persistent", "indexeddb", "memory"] satisfies StateKind[];

/** The best store of that kind that this browser has; none keeps it in memory. */
export async function openStateStore(kind: StateKind): Promise<StateStore | undefined> {
  if (!KINDS.includes(kind)) {
    const fix = `use one of ${KINDS.join(", ")}`;
    throw new RuvllmError(`state is ${String(kind)}`, { name: "InputError", field: "state", fix });
  }
  const database = (): StateStore | undefined => (globalThis.indexedDB ? new DatabaseStore() : undefined);
  if (kind === "memory") return undefined;
  if (kind === "indexeddb") return database();
  try {
    const root = await navigator.storage.getDirectory();
    if ("createWritable" in FileSystemFileHandle.prototype) return new FileStore(root, database);
  } catch {
    // no OPFS here (an old browser, a private window, plain http)
  }
  return database();
}

/** What went wrong while writing, told so that a person can mend it. */
function saveError(error: unknown): RuvllmError {
  const full = error instanceof Error && error.name === "QuotaExceededError";
  const message = full ? "this browser gives the page no more space" : `it could not be kept: ${String(error)}`;
  const fix = full ? "free some space, or export and start again" : "export what was learnt, then reload";
  return new RuvllmError(message.slice(0, 300), { name: "StoreError", field: "state", fix, cause: error });
}

/** Every tab hears what the others learn, so that the last one to save has it all. */
class Shared {
  readonly #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("ruvllm-state") : undefined;

  tell(change: StateChange): void {
    this.#channel?.postMessage(change);
  }

  listen(hear: (change: StateChange) => void): void {
    this.#channel?.addEventListener("message", (event: MessageEvent<StateChange>) => hear(event.data));
  }

  close(): void {
    this.#channel?.close();
  }
}

/** A file of the origin's private file system; closing a writable swaps the old file for the new at once. */
class FileStore extends Shared implements StateStore {
  readonly kind = "opfs";
  readonly #root: FileSystemDirectoryHandle;
  readonly #before: () => StateStore | undefined;

  constructor(root: FileSystemDirectoryHandle, before: () => StateStore | undefined) {
    super();
    this.#root = root;
    this.#before = before;
  }

  async load(): Promise<Uint8Array | null> {
    try {
      const file = await (await this.#root.getFileHandle(NAME)).getFile();
      return new Uint8Array(await file.arrayBuffer());
    } catch (error) {
      // none yet: perhaps a version of this browser that could not write files kept it in IndexedDB
      if (error instanceof DOMException && error.name === "NotFoundError") return this.#fromBefore();
      throw error;
    }
  }

  async #fromBefore(): Promise<Uint8Array | null> {
    const before = this.#before();
    try {
      return (await before?.load()) ?? null;
    } catch {
      return null; // it cannot be read; this store still works
    } finally {
      before?.close();
    }
  }

  save(bytes: Uint8Array): Promise<void> {
    return this.#write(NAME, bytes);
  }

  setAside(bytes: Uint8Array): Promise<void> {
    return this.#write(BROKEN, bytes);
  }

  async #write(name: string, bytes: Uint8Array): Promise<void> {
    try {
      const handle = await this.#root.getFileHandle(name, { create: true });
      const stream = await handle.createWritable();
      await stream.write(bytes as Uint8Array<ArrayBuffer>);
      await stream.close();
    } catch (error) {
      throw saveError(error);
    }
  }
}

/** One record in IndexedDB. */
class DatabaseStore extends Shared implements StateStore {
  readonly kind = "indexeddb";
  #opening: Promise<IDBDatabase> | undefined;

  #open(): Promise<IDBDatabase> {
    this.#opening ??= openDatabase(() => (this.#opening = undefined));
    return this.#opening;
  }

  async load(): Promise<Uint8Array | null> {
    const database = await this.#open();
    return new Promise((resolve, reject) => {
      const request = database.transaction(TABLE).objectStore(TABLE).get(NAME);
      request.onsuccess = () => resolve(request.result instanceof Uint8Array ? request.result : null);
      request.onerror = () => reject(request.error);
    });
  }

  save(bytes: Uint8Array): Promise<void> {
    return this.#write(NAME, bytes);
  }

  setAside(bytes: Uint8Array): Promise<void> {
    return this.#write(BROKEN, bytes);
  }

  override close(): void {
    super.close();
    void this.#opening?.then((database) => database.close(), () => undefined);
    this.#opening = undefined;
  }

  async #write(name: string, bytes: Uint8Array): Promise<void> {
    try {
      const database = await this.#open();
      await new Promise<void>((resolve, reject) => {
        const transaction = database.transaction(TABLE, "readwrite", { durability: "strict" });
        transaction.objectStore(TABLE).put(bytes, name);
        transaction.oncomplete = () => resolve();
        transaction.onabort = () => reject(transaction.error); // only now does it say why; every error ends here
      });
    } catch (error) {
      throw saveError(error);
    }
  }
}

/** The database, made when missing; `gone` is called when it has to be opened anew. */
function openDatabase(gone: () => void): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("ruvllm", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    request.onsuccess = () => {
      const database = request.result;
      database.onclose = gone; // the browser has cleared its storage
      database.onversionchange = () => {
        database.close(); // or deleting the database would wait for this page to go
        gone();
      };
      resolve(database);
    };
    request.onerror = () => {
      gone();
      reject(request.error);
    };
  });
}
