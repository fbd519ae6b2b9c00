/** The built folder on a disk, for Node. */
import { readFile } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { RuvllmError } from "./errors.js";
import { Ledger, parseIndex, type Site, type SiteIndex } from "./site.js";

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
    return new URL(file, this.#base).href;
  }

  place(file: string): string {
    return fileURLToPath(new URL(file, this.#base));
  }

  async read(file: string): Promise<Uint8Array<ArrayBuffer>> {
    const data = await bytesOf(new URL(file, this.#base));
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
export async function bytesOf(
  file: URL, fix = "set `baseURL` to the folder that `make web` built",
): Promise<Uint8Array<ArrayBuffer>> {
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
