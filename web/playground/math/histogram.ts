/** Counts of times on a logarithmic scale: routes differ by tens, not by ones. */

export interface Bin {
  from: number;
  to: number;
  counts: number[];
}

/** Bins over all series together; `counts[i]` is of series i. */
export function bins(series: readonly (readonly number[])[], amount = 32): Bin[] {
  const all = series.flat().filter((value) => value > 0);
  if (!all.length) return [];
  const low = Math.log(Math.min(...all) * 0.98);
  const high = Math.log(Math.max(...all) * 1.02);
  const step = (high - low) / amount || 1;
  const out = Array.from({ length: amount }, (_, i) => ({
    from: Math.exp(low + i * step),
    to: Math.exp(low + (i + 1) * step),
    counts: series.map(() => 0),
  }));
  series.forEach((values, which) => {
    for (const value of values) {
      if (!(value > 0)) continue;
      const bin = out[Math.min(amount - 1, Math.max(0, Math.floor((Math.log(value) - low) / step)))];
      if (bin) bin.counts[which] = (bin.counts[which] ?? 0) + 1;
    }
  });
  return out;
}
