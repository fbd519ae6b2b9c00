/** Starts Python, and turns what the bridge answers into values and errors. */
import type { loadPyodide, PyodideInterface } from "pyodide";
import { RuvllmError } from "./errors.js";
import ANSWERS from "./python/answers.py?raw";
import ARGUMENTS from "./python/arguments.py?raw";
import BRIDGE from "./python/bridge.py?raw";
import STATE_FILE from "./python/statefile.py?raw";
import WEB_HOST from "./python/webhost.py?raw";
import COORDINATOR from "./python/coordinator.py?raw";
import WORKBENCH from "./python/workbench.py?raw";
import type { Digest, Site } from "./site.js";
import { dropSnapshot, lacksSnapshot, loadSnapshot, makeSnapshot, type SnapshotOptions } from "./snapshot.js";

const FOLDER = "/home/pyodide/ruvllm_web";
const MODULES = {
  answers: ANSWERS,
  arguments: ARGUMENTS,
  bridge: BRIDGE,
  statefile: STATE_FILE,
  webhost: WEB_HOST,
  coordinator: COORDINATOR,
  workbench: WORKBENCH,
};

/** A bridge method's result before it is opened: JSON, a typed array, or a promise of one of them. */
export type Answer = string | Float32Array | Uint8Array | (PromiseLike<string | Float32Array | Uint8Array> & Proxied);

/** A Python object in JavaScript: it has to be let go. */
interface Proxied {
  destroy(): void;
}

/** The Python object behind it all (src/python/bridge.py), as a proxy that lives as long as the interpreter. */
export interface Bridge {
  host: Host;
  start(agents: string, state: Uint8Array | undefined): Answer;
  call(method: string, args: string): Answer;
  dump(): Answer;
  restore(data: Uint8Array): Answer;
  update(data: Uint8Array): Answer;
  close(): void;
}

/** src/python/webhost.py. */
export interface Host {
  put(name: string, data: Uint8Array): void;
  connect(runner: (ids: BigInt64Array<ArrayBuffer>) => Promise<Float32Array>): void;
}

type Boot = typeof loadPyodide;

async function pyodideOf(site: Site): Promise<{ load: Boot; options: Parameters<Boot>[0] }> {
  const { pyodide, lock } = site.index;
  const module = (await import(/* @vite-ignore */ site.module(`${pyodide}pyodide.mjs`))) as { loadPyodide: Boot };
  const quiet = (): void => undefined;
  const places = { indexURL: site.place(pyodide), lockFileURL: site.place(lock), packageBaseUrl: site.place("./") };
  return { load: module.loadPyodide, options: { ...places, stdout: quiet, stderr: quiet } };
}

/** How Python was started. */
export interface Booted {
  python: PyodideInterface;
  from: "snapshot" | "start";
}

/** Pyodide alone, from the snapshot of an earlier visit where there is one; the packages can be fetched meanwhile. */
export async function bootPython(site: Site, useSnapshot: boolean): Promise<Booted> {
  const [{ load, options }, memory] = await Promise.all([pyodideOf(site), useSnapshot ? loadSnapshot(site) : null]);
  if (memory) {
    try {
      const restore: SnapshotOptions = { _loadSnapshot: memory };
      const python = await load({ ...options, ...restore });
      python.runPython("import random; random.seed()"); // or every visit would draw the same numbers
      return { python, from: "snapshot" };
    } catch {
      await dropSnapshot();
    }
  }
  return { python: await load({ ...options }), from: "start" };
}

/** Keep a snapshot for the next visit, unless there is one. */
export async function keepSnapshot(site: Site): Promise<boolean> {
  if (!(await lacksSnapshot(site))) return false;
  const { load, options } = await pyodideOf(site);
  await makeSnapshot(site, load, options);
  return true;
}

/** Unpack the packages. (Pyodide's own `loadPackage` would compile every library of numpy, needed or not.) */
export function installPackages(python: PyodideInterface, packages: [file: string, data: Uint8Array][]): void {
  const folder = python.runPython("import site; site.getsitepackages()[0]") as string;
  for (const [file, data] of packages) {
    python.unpackArchive(data, file.endsWith(".whl") ? "wheel" : "zip", { extractDir: folder });
    const name = file.slice(file.lastIndexOf("/") + 1).split("-")[0] ?? "";
    (python.loadedPackages as Record<string, string>)[name] = "ruvllm"; // a package of the page's own that needs numpy needs no second one
  }
}

/** SHA-256 by Python. */
export function pythonDigest(python: PyodideInterface): Digest {
  const digest = python.runPython("from hashlib import sha256; lambda data: sha256(data.to_bytes()).hexdigest()") as {
    (data: Uint8Array): string;
  };
  return (data) => digest(data);
}

/** The bridge of a started Python. */
export function openBridge(python: PyodideInterface, mode: string): Bridge {
  python.FS.mkdirTree(FOLDER);
  for (const [name, source] of Object.entries(MODULES)) python.FS.writeFile(`${FOLDER}/${name}.py`, source);
  const module = python.pyimport("ruvllm_web.bridge") as { Bridge(mode: string): Bridge } & Proxied;
  try {
    return module.Bridge(mode);
  } finally {
    module.destroy();
  }
}

/** What an answer holds. Throws the RuvllmError that it tells. */
export async function open<T>(answer: Answer): Promise<T> {
  let value = answer;
  if (typeof value !== "string" && "destroy" in value) {
    const task = value;
    try {
      value = await task;
    } finally {
      task.destroy();
    }
  }
  if (typeof value !== "string") return value as T;
  const told = JSON.parse(value) as { value?: T; error?: { name: string; message: string; field: string; fix: string } };
  if (told.error) throw new RuvllmError(told.error.message, told.error);
  return told.value as T;
}
