/** Where what is learnt stays between visits: a file of this origin (OPFS), or IndexedDB where that cannot be written. */
import { RuvllmError } from "./errors.js";
import { sha256 } from "./site.js";
import type { StateKind } from "./types.js";

/** Keeps the bytes of one SQLite file, which all tabs of an origin share. */
export interface StateStore {
  readonly kind: string;
  /** What is stored, unless this store has read or written it last; null also when nothing is. */
  news(): Promise<Uint8Array | null>;
  /**
   * Whole or not at all.
   *
   * @throws OvertakenError when another tab has saved since the last `news`
   */
  save(bytes: Uint8Array): Promise<void>;
  /** Keep bytes that cannot be used, rather than write over them. */
  setAside(bytes: Uint8Array): Promise<void>;
  /** Do this while no other tab does the like; without Web Locks they may, and `save` tells. */
  alone<T>(work: () => Promise<T>): Promise<T>;
  /** Let the other tabs hear that there is news. */
  tell(): void;
  listen(hear: () => void): void;
  close(): void;
}

/** Another tab was quicker: what was saved is to be done again upon its news. */
export class OvertakenError extends Error {}

const NAME = "ruvllm.sqlite";
const BROKEN = "ruvllm.broken.sqlite";
const TABLE = "files"; // IndexedDB's object store
const REVISION = "revision"; // in it: another number with each save

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
    const root = await navigator.storage?.getDirectory?.();
    // Two tabs can only take turns at a file by a lock.
    if (root && navigator.locks && "createWritable" in FileSystemFileHandle.prototype) return new FileStore(root, database);
  } catch {
    // no OPFS here (a private window)
  }
  return database();
}

/** What went wrong with the place, told so that a person can mend it. */
function saveError(error: unknown): RuvllmError {
  const full = error instanceof Error && error.name === "QuotaExceededError";
  const message = full ? "this browser gives the page no more space" : `it could not be kept: ${String(error)}`;
  const fix = full ? "free some space, or export and start again" : "export what was learnt, then reload";
  return new RuvllmError(message.slice(0, 300), { name: "StoreError", field: "state", fix, cause: error });
}

/** Takes turns with the other tabs, and hears of them. */
class Shared {
  readonly #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("ruvllm-state") : undefined;

  alone<T>(work: () => Promise<T>): Promise<T> {
    const { locks } = navigator;
    return locks ? (locks.request("ruvllm-state", work) as Promise<T>) : work();
  }

  tell(): void {
    this.#channel?.postMessage("news");
  }

  listen(hear: () => void): void {
    this.#channel?.addEventListener("message", hear);
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
  /** SHA-256 of what was read or written last. */
  #seen: string | null = null;

  constructor(root: FileSystemDirectoryHandle, before: () => StateStore | undefined) {
    super();
    this.#root = root;
    this.#before = before;
  }

  async news(): Promise<Uint8Array | null> {
    try {
      const file = await (await this.#root.getFileHandle(NAME)).getFile();
      const bytes = new Uint8Array(await file.arrayBuffer());
      const before = this.#seen;
      this.#seen = await sha256(bytes);
      return this.#seen === before ? null : bytes;
    } catch (error) {
      // none yet: perhaps a version of this browser that could not write files kept it in IndexedDB
      const none = error instanceof DOMException && error.name === "NotFoundError";
      if (none) return this.#seen === null ? this.#fromBefore() : null;
      throw saveError(error);
    }
  }

  async #fromBefore(): Promise<Uint8Array | null> {
    const before = this.#before();
    try {
      return (await before?.news()) ?? null;
    } catch {
      return null; // it cannot be read; this store still works
    } finally {
      before?.close();
    }
  }

  async save(bytes: Uint8Array): Promise<void> {
    await this.#write(NAME, bytes);
    this.#seen = await sha256(bytes as Uint8Array<ArrayBuffer>);
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

/** One record in IndexedDB, and the number of its saving: a transaction sees whether another tab was quicker. */
class DatabaseStore extends Shared implements StateStore {
  readonly kind = "indexeddb";
  #opening: Promise<IDBDatabase> | undefined;
  /** The number of what was read or written last. */
  #seen = 0;

  async news(): Promise<Uint8Array | null> {
    const { bytes, revision } = await this.#read().catch((error: unknown) => {
      throw saveError(error);
    });
    const before = this.#seen;
    this.#seen = Number(revision.result ?? 1); // a record of an older version of this page has none
    return bytes.result instanceof Uint8Array && this.#seen !== before ? bytes.result : null;
  }

  async #read(): Promise<{ bytes: IDBRequest<unknown>; revision: IDBRequest<unknown> }> {
    const transaction = (await this.#open()).transaction(TABLE);
    const files = transaction.objectStore(TABLE);
    const read = { bytes: files.get(NAME), revision: files.get(REVISION) };
    await ended(transaction);
    return read;
  }

  async save(bytes: Uint8Array): Promise<void> {
    const next = Math.random();
    await this.#write((files, abort) => {
      const revision = files.get(REVISION);
      revision.onsuccess = () => {
        if (Number(revision.result ?? this.#seen) !== this.#seen) return abort(new OvertakenError());
        files.put(bytes, NAME);
        files.put(next, REVISION);
      };
    });
    this.#seen = next;
  }

  setAside(bytes: Uint8Array): Promise<void> {
    return this.#write((files) => void files.put(bytes, BROKEN));
  }

  override close(): void {
    super.close();
    void this.#opening?.then((database) => database.close(), () => undefined);
    this.#opening = undefined;
  }

  #open(): Promise<IDBDatabase> {
    this.#opening ??= openDatabase(() => (this.#opening = undefined));
    return this.#opening;
  }

  async #write(work: (files: IDBObjectStore, abort: (why: Error) => void) => void): Promise<void> {
    let why: Error | undefined;
    try {
      const transaction = (await this.#open()).transaction(TABLE, "readwrite", { durability: "strict" });
      work(transaction.objectStore(TABLE), (error) => {
        why = error;
        transaction.abort();
      });
      await ended(transaction);
    } catch (error) {
      throw why ?? saveError(error);
    }
  }
}

function ended(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error); // only now does it say why; every error ends here
  });
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
