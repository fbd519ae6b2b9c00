/** The two directions along which vectors differ most, by power iteration. */

export interface Plane {
  mean: Float32Array;
  /** Two orthogonal unit directions. */
  axes: [Float32Array, Float32Array];
}

const STEPS = 60;

/** Fits the plane to `data.length / dim` rows. Deterministic: the same rows give the same plane. */
export function fitPlane(data: Float32Array, dim: number): Plane {
  const rows = data.length / dim;
  const mean = new Float32Array(dim);
  for (let i = 0; i < data.length; i++) mean[i % dim] = at(mean, i % dim) + at(data, i) / Math.max(1, rows);
  const centred = data.map((value, i) => value - at(mean, i % dim));
  const first = strongest(centred, dim, null);
  return { mean, axes: [first, strongest(centred, dim, first)] };
}

/** Where a row falls in the plane. */
export function project(plane: Plane, row: ArrayLike<number>): [number, number] {
  let x = 0;
  let y = 0;
  for (let i = 0; i < plane.mean.length; i++) {
    const value = at(row, i) - at(plane.mean, i);
    x += value * at(plane.axes[0], i);
    y += value * at(plane.axes[1], i);
  }
  return [x, y];
}

/** The inner product of two rows: their cosine, when both have length one. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += at(a, i) * at(b, i);
  return sum;
}

/** v ← XᵀXv / |XᵀXv|, kept orthogonal to `other`. */
function strongest(data: Float32Array, dim: number, other: Float32Array | null): Float32Array {
  let v = new Float32Array(dim).map((_, i) => Math.sin(i * 12.9898 + 78.233 + (other ? 1 : 0)));
  for (let step = 0; step < STEPS; step++) {
    if (other) {
      const along = dot(v, other);
      v = v.map((value, i) => value - along * at(other, i));
    }
    const length = Math.sqrt(dot(v, v));
    if (length < 1e-12) return v; // fewer than two directions
    v = v.map((value) => value / length);
    if (step === STEPS - 1) break;
    const next = new Float32Array(dim);
    for (let from = 0; from < data.length; from += dim) {
      const row = data.subarray(from, from + dim);
      const weight = dot(row, v);
      for (let i = 0; i < dim; i++) next[i] = at(next, i) + weight * at(row, i);
    }
    v = next;
  }
  return v;
}

function at(values: ArrayLike<number>, i: number): number {
  return values[i] ?? 0;
}
