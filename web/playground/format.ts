/** Numbers as a person reads them. */

const THIN = "\u202f";

export function micros(us: number): string {
  if (us === 0) return `<${THIN}100${THIN}µs`; // a clock of a page that is not isolated ticks so
  if (us >= 9_950) return `${(us / 1000).toFixed(0)}${THIN}ms`;
  if (us >= 1_000) return `${(us / 1000).toFixed(1)}${THIN}ms`;
  return us >= 100 ? `${Math.round(us)}${THIN}µs` : `${us.toFixed(us < 10 ? 1 : 0)}${THIN}µs`;
}

export function bytes(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)}${THIN}MB`;
  return count >= 1e3 ? `${(count / 1e3).toFixed(0)}${THIN}kB` : `${count}${THIN}B`;
}

export function cosine(value: number): string {
  return (Math.round(value * 100) / 100 || 0).toFixed(2); // never -0.00
}

export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

/** The p-th quantile (0 to 1) of sorted values. */
export function quantile(sorted: readonly number[], p: number): number {
  if (!sorted.length) return Number.NaN;
  const at = (sorted.length - 1) * p;
  const low = Math.floor(at);
  const below = sorted[low] ?? Number.NaN;
  return below + ((sorted[low + 1] ?? below) - below) * (at - low);
}
