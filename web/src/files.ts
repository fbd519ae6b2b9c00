/** The built folder's files on a disk, for `npx ruvllm copy` and for plugins of bundlers. */
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { builtHere, bytesOf, located } from "./disk.js";
import { parseIndex } from "./site.js";

const INDEX = "ruvllm.json";
const WORKER = "sw.js"; // of `keepOffline`; no index can list it

/** A file of the built folder. */
export interface BuiltFile {
  /** Its path in the folder. */
  name: string;
  /** Where it lies. */
  path: string;
  bytes: number;
}

/**
 * All that a page may fetch.
 *
 * @throws RuvllmError when the package is damaged, or the one with the large files is not installed
 */
export async function builtFiles(): Promise<BuiltFile[]> {
  const base = builtHere();
  const file = new URL(INDEX, base);
  const text = await bytesOf(file, "install ruvllm anew");
  const index = parseIndex(new TextDecoder().decode(text), fileURLToPath(file));
  const worker = await bytesOf(new URL(WORKER, base), "install ruvllm anew");
  const sizes: [string, number][] = Object.entries(index.files).map(([name, entry]) => [name, entry.bytes]);
  return [...sizes, [INDEX, text.length] as const, [WORKER, worker.length] as const].map(([name, bytes]) => {
    return { name, path: fileURLToPath(located(name, base)), bytes };
  });
}

/** Copy all of them into a folder, whose other files stay. */
export async function copyInto(folder: string): Promise<BuiltFile[]> {
  const files = await builtFiles();
  for (const { name, path } of files) {
    const target = join(folder, name);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(path, target);
  }
  return files;
}
