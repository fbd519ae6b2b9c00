/** Dollars and shares as a person reads them. */

/** A price that may be tiny: two figures that say something. */
export function dollars(value: number): string {
  if (value === 0) return "$0";
  if (value >= 100) return `$${Math.round(value).toLocaleString("en")}`;
  if (value >= 0.1) return `$${value.toFixed(2)}`;
  return `$${Number(value.toPrecision(2)).toFixed(8).replace(/0+$/, "")}`;
}

/** A share that may well be all or nothing; confidences have words of their own. */
export function share(value: number): string {
  return `${Math.round(value * 100)}\u202f%`;
}

export function seconds(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)}\u202fms` : `${(ms / 1_000).toFixed(1)}\u202fs`;
}
