/** Matrices in blocks of 4 or 8 bits as int8 with one scale a row: what the WebAssembly graph multiplies with. */

const BLOCK = 32;
const TILE = 64; // rows that are turned over at a time: one line of the cache each

/** A matrix as the manifest tells of it (`Packed` in models/ruvllm_models/convert/web_graph.py). */
export interface PackedMatrix {
  rows: number;
  columns: number;
  bits: number;
  /** File and offset of each. */
  q: [string, number];
  scale: [string, number];
  zero: [string, number];
  /** The names under which the graph finds what is made here. */
  weight: string;
  scales: string;
}

/** A matrix of int8 (columns, rows), and what each row is multiplied with. */
export interface Int8Matrix {
  weight: Int8Array<ArrayBuffer>;
  scales: Float32Array<ArrayBuffer>;
}

/**
 * Make a matrix of its blocks.
 *
 * @param file the bytes of a shard
 */
export function int8Matrix(told: PackedMatrix, file: (name: string) => Uint8Array<ArrayBuffer>): Int8Matrix {
  const { rows, columns, bits } = told;
  const blocks = Math.ceil(columns / BLOCK);
  const width = (blocks * BLOCK * bits) / 8;
  const zeros = Math.ceil((blocks * bits) / 8);
  const part = ([name, offset]: [string, number], bytes: number): Uint8Array<ArrayBuffer> => {
    const data = file(name);
    if (offset + bytes > data.length) throw new RangeError(`${name} ends before ${told.weight}`);
    return data.subarray(offset, offset + bytes);
  };
  const q = part(told.q, rows * width);
  const zero = part(told.zero, rows * zeros);
  const scale = new Float32Array(part(told.scale, rows * blocks * 4).slice().buffer);
  const weight = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  const row = new Float32Array(blocks * BLOCK);
  const tile = new Int8Array(TILE * columns);
  const unpack = bits === 4 ? unpack4 : unpack8;
  for (let first = 0; first < rows; first += TILE) {
    const count = Math.min(TILE, rows - first);
    for (let i = 0; i < count; i++) {
      const r = first + i;
      unpack(row, q, r * width, zero, r * zeros, scale, r * blocks, blocks);
      scales[r] = round(row, columns, tile, i * columns);
    }
    turn(tile, columns, count, weight, rows, first);
  }
  return { weight, scales };
}

type Unpack = (
  row: Float32Array, q: Uint8Array, at: number, zero: Uint8Array, zeroAt: number, scale: Float32Array, scaleAt: number,
  blocks: number,
) => void;

const unpack4: Unpack = (row, q, at, zero, zeroAt, scale, scaleAt, blocks) => {
  for (let b = 0; b < blocks; b++) {
    const z = ((zero[zeroAt + (b >> 1)] as number) >> ((b & 1) << 2)) & 15;
    const s = scale[scaleAt + b] as number;
    const from = at + b * (BLOCK / 2);
    for (let i = 0, to = b * BLOCK; i < BLOCK / 2; i++, to += 2) {
      const pair = q[from + i] as number;
      row[to] = ((pair & 15) - z) * s;
      row[to + 1] = ((pair >> 4) - z) * s;
    }
  }
};

const unpack8: Unpack = (row, q, at, zero, zeroAt, scale, scaleAt, blocks) => {
  for (let b = 0; b < blocks; b++) {
    const z = zero[zeroAt + b] as number;
    const s = scale[scaleAt + b] as number;
    for (let i = b * BLOCK; i < (b + 1) * BLOCK; i++) row[i] = ((q[at + i] as number) - z) * s;
  }
};

/** A row as int8; returns the scale. */
function round(row: Float32Array, columns: number, out: Int8Array, at: number): number {
  let top = 0;
  for (let i = 0; i < columns; i++) {
    const size = row[i] as number;
    if (size > top) top = size;
    else if (-size > top) top = -size;
  }
  const scale = Math.fround(top / 127) || 1;
  const inverse = 1 / scale;
  // Above zero, cutting off is rounding down, and many times as fast as Math.floor.
  for (let i = 0; i < columns; i++) out[at + i] = (((row[i] as number) * inverse + 128.5) | 0) - 128;
  return scale;
}

/** Rows of a tile as columns of the whole. */
function turn(tile: Int8Array, columns: number, count: number, out: Int8Array, stride: number, first: number): void {
  for (let k = 0, to = first; k < columns; k++, to += stride) {
    for (let i = 0, from = k; i < count; i++, from += columns) out[to + i] = tile[from] as number;
  }
}
