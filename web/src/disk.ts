/** The built folder on a disk, for Node. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { RuvllmError } from "./errors.js";
import { Ledger, parseIndex, SET_BASE, type Site, type SiteIndex } from "./site.js";

/** The npm package that brings the large files, beside the built folder or on its own. */
const LARGE = "ruvllm-assets";

/** The built folder, where this module lies; in words that no bundler takes for a file to bring along. */
export function builtHere(): URL {
  return pathToFileURL(`${import.meta.dirname}/`);
}

/** Where a file of the built folder lies: in it, or in the package of the large ones where that is installed. */
export function located(file: string, base: URL): URL {
  const here = new URL(file, base);
  if (existsSync(here)) return here;
  try {
    const there = new URL(file, import.meta.resolve(`${LARGE}/package.json`));
    return existsSync(there) ? there : here;
  } catch {
    return here; // it is not installed
  }
}

class DiskSite implements Site {
  readonly index: SiteIndex;
  readonly #base: URL;
  readonly #ledger: Ledger;

  constructor(base: URL, index: SiteIndex, ledger: Ledger) {
    this.#base = base;
    this.index = index;
    this.#ledger = ledger;
  }

  module(file: string): string {
    return located(file, this.#base).href;
  }

  place(file: string): string {
    return fileURLToPath(located(file, this.#base));
  }

  async read(file: string): Promise<Uint8Array<ArrayBuffer>> {
    const data = await bytesOf(located(file, this.#base));
    this.#ledger.add(file, data.length);
    return data;
  }
}

/** The folder with its index, if it is one. */
export async function diskSite(place: string | URL, ledger: Ledger): Promise<Site> {
  const base = folder(place);
  const file = new URL("ruvllm.json", base);
  return new DiskSite(base, parseIndex(new TextDecoder().decode(await bytesOf(file)), fileURLToPath(file)), ledger);
}

/** A plain Uint8Array: Pyodide refuses Node's Buffer. */
export async function bytesOf(file: URL, fix = SET_BASE): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await readFile(file));
  } catch (cause) {
    const path = fileURLToPath(file);
    throw new RuvllmError(`${path} cannot be read`, { name: "ArtifactError", field: path, fix, cause });
  }
}

/** A folder's file URL, from one or from a path. */
export function folder(base: string | URL): URL {
  const url = base instanceof URL || base.startsWith("file:") ? new URL(base) : pathToFileURL(base);
  return url.pathname.endsWith("/") ? url : new URL(`${url.href}/`);
}
