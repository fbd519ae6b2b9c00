/**
 * Python's memory just after its start, kept in Cache Storage by the first visit: later ones restore it
 * (about 30 MB) in place of starting Python. It holds no package and nothing of the user's.
 */
import type { loadPyodide, PyodideInterface } from "pyodide";
import type { Site } from "./site.js";

const CACHE = "ruvllm-snapshot";

/** What the packages import of the standard library: no module that keeps a JavaScript object. */
const MODULES =
  "ast, asyncio, collections.abc, contextvars, ctypes, dataclasses, datetime, enum, functools, hashlib, importlib.resources, " +
  "inspect, io, json, math, numbers, pathlib, pickle, platform, random, re, shutil, sqlite3, struct, tempfile, textwrap, " +
  "tomllib, typing, unicodedata, warnings, zipfile, zlib";

/** Pyodide's options for its own experiment with snapshots; its types leave them out. */
export interface SnapshotOptions {
  _makeSnapshot?: boolean;
  _loadSnapshot?: Uint8Array;
}

/** The snapshot's address: another Pyodide or standard library has another folder, and so another one. */
function address(site: Site): string {
  return site.module(`${site.index.pyodide}memory-snapshot`);
}

/** A kept snapshot, or null: not made yet, or a browser without Cache Storage. */
export async function loadSnapshot(site: Site): Promise<Uint8Array | null> {
  try {
    const cache = await globalThis.caches?.open(CACHE);
    const found = await cache?.match(address(site));
    return found ? new Uint8Array(await found.arrayBuffer()) : null;
  } catch {
    return null; // a private window, or storage that was taken away
  }
}

/** Whether one should be made: there is a place for it, and it is not there yet. */
export async function lacksSnapshot(site: Site): Promise<boolean> {
  try {
    const cache = await globalThis.caches?.open(CACHE);
    const { quota = 0, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
    return cache !== undefined && quota - usage > 200_000_000 && (await cache.match(address(site))) === undefined;
  } catch {
    return false;
  }
}

/** Forget it: it did not start. */
export async function dropSnapshot(): Promise<void> {
  await globalThis.caches?.delete(CACHE).catch(() => false);
}

/** Start another Python, just to keep its memory. In a worker of its own, since it takes most of a second. */
export async function makeSnapshot(site: Site, load: typeof loadPyodide, options: Parameters<typeof loadPyodide>[0]): Promise<void> {
  const make: SnapshotOptions = { _makeSnapshot: true };
  const python = (await load({ ...options, ...make })) as PyodideInterface & { makeMemorySnapshot(): Uint8Array };
  python.runPython(`import ${MODULES}`);
  const cache = await caches.open(CACHE);
  for (const old of await cache.keys()) await cache.delete(old);
  await cache.put(address(site), new Response(python.makeMemorySnapshot() as Uint8Array<ArrayBuffer>));
}
