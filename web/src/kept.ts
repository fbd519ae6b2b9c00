/** What this browser keeps of ruvllm's files, so that a page can show it and take it away. */

/** One of Cache Storage's caches. */
export interface CacheEntry {
  name: string;
  /** How many files it has, and their bytes. */
  files: number;
  bytes: number;
}

const OURS = /^ruvllm-/;

/** The files of `keepOffline` and the snapshot of Python; never what was learnt. */
export const cache = {
  async list(): Promise<CacheEntry[]> {
    const names = (await globalThis.caches?.keys())?.filter((name) => OURS.test(name)) ?? [];
    return Promise.all(names.map(measured));
  },

  /** Take one away, or all; whether there was such. They are fetched again when they are needed. */
  async delete(name?: string): Promise<boolean> {
    const names = (await this.list()).map((one) => one.name).filter((one) => name === undefined || one === name);
    const gone = await Promise.all(names.map((one) => caches.delete(one)));
    return gone.includes(true);
  },
};

async function measured(name: string): Promise<CacheEntry> {
  const held = await caches.open(name);
  const sizes = await Promise.all((await held.keys()).map(async (key) => (await (await held.match(key))?.blob())?.size ?? 0));
  return { name, files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}
