/** A decoder in onnxruntime-web. Its caches stay here, under numbers: only tokens go in, and logits come out. */
import type * as Ort from "onnxruntime-web";
import { badModel, type Manifest } from "./manifest.js";
import { int8Matrix } from "./pack.js";

type Files = Map<string, Uint8Array<ArrayBuffer>>;
type Tensors = Record<string, Ort.Tensor>;

/** What a step gives: float32 logits after the last token, and the number of the cache that holds all so far. */
export interface Step {
  logits: Float32Array;
  cache: number;
}

interface Cache {
  tensors: Tensors;
  tokens: number;
}

/** Runs one step after the other. */
export class Decoder {
  readonly #ort: typeof Ort;
  readonly #session: Ort.InferenceSession;
  readonly #empty: Cache;
  readonly #caches = new Map<number, Cache>();
  #next = 1;

  private constructor(ort: typeof Ort, session: Ort.InferenceSession, manifest: Manifest) {
    this.#ort = ort;
    this.#session = session;
    this.#empty = { tensors: empty(ort, manifest), tokens: 0 };
  }

  /**
   * Load a graph.
   *
   * @param files everything by name
   */
  static async open(ort: typeof Ort, manifest: Manifest, files: Files, device: "webgpu" | "wasm"): Promise<Decoder> {
    const name = graphOf(manifest, device);
    const graph = files.get(name) as Uint8Array<ArrayBuffer>;
    const external = [...files].filter(([file]) => file.startsWith("model.onnx_data")).map(([path, data]) => ({ path, data }));
    if (name === manifest.web?.graph) external.push(...packed(manifest.web.matrices, files));
    const present = device === "webgpu" ? ("gpu-buffer" as const) : ("cpu" as const);
    const outputs = Object.keys(empty(ort, manifest)).map((past) => [presentOf(past), present] as const);
    const session = await ort.InferenceSession.create(graph, {
      executionProviders: [device],
      graphOptimizationLevel: "all",
      externalData: external,
      preferredOutputLocation: Object.fromEntries([...outputs, ["logits", "cpu"]]),
    });
    return new Decoder(ort, session, manifest);
  }

  /**
   * Read tokens.
   *
   * @param cache of what was read before; 0 for nothing
   * @param known how many of its tokens count
   */
  async run(ids: BigInt64Array<ArrayBuffer>, cache: number, known: number): Promise<Step> {
    const before = await this.#until(this.#caches.get(cache) ?? this.#empty, known);
    const tokens = known + ids.length;
    const int64 = (data: BigInt64Array<ArrayBuffer>, shape: number[]): Ort.Tensor => new this.#ort.Tensor("int64", data, shape);
    const outputs = await this.#session.run({
      ...before.tensors,
      input_ids: int64(ids, [1, ids.length]),
      attention_mask: int64(new BigInt64Array(tokens).fill(1n), [1, tokens]),
      num_logits_to_keep: int64(BigInt64Array.of(1n), [1]),
    });
    const tensors = Object.fromEntries(Object.keys(before.tensors).map((past) => [past, outputs[presentOf(past)] as Ort.Tensor]));
    this.#caches.set(this.#next, { tensors, tokens });
    return { logits: outputs["logits"]?.data as Float32Array, cache: this.#next++ };
  }

  /** Forget a cache. */
  free(cache: number): void {
    const held = this.#caches.get(cache);
    this.#caches.delete(cache);
    if (held) release(held);
  }

  async close(): Promise<void> {
    for (const cache of [...this.#caches.keys()]) this.free(cache);
    await this.#session.release();
  }

  /** The cache of the first tokens alone; only what attends can be cut. */
  async #until(cache: Cache, tokens: number): Promise<Cache> {
    if (tokens === cache.tokens) return cache;
    const cut = async ([name, tensor]: [string, Ort.Tensor]): Promise<[string, Ort.Tensor]> => {
      const [, heads = 1, length = 0, width = 1] = tensor.dims;
      const data = (await tensor.getData()) as Float32Array;
      const kept = new Float32Array(heads * tokens * width);
      for (let h = 0; h < heads; h++) {
        const from = h * length * width;
        kept.set(data.subarray(from, from + tokens * width), h * tokens * width);
      }
      return [name, new this.#ort.Tensor("float32", kept, [1, heads, tokens, width])];
    };
    return { tensors: Object.fromEntries(await Promise.all(Object.entries(cache.tensors).map(cut))), tokens };
  }
}

/** The graph that a device runs best. */
export function graphOf(manifest: Manifest, device: "webgpu" | "wasm"): string {
  return device === "wasm" && manifest.web ? manifest.web.graph : "model.onnx";
}

function packed(matrices: NonNullable<Manifest["web"]>["matrices"], files: Files): { path: string; data: Uint8Array<ArrayBuffer> }[] {
  const file = (name: string): Uint8Array<ArrayBuffer> => {
    const data = files.get(name);
    if (data) return data;
    throw badModel(`a matrix lies in ${name}, which is no file of the model`, name);
  };
  return matrices.flatMap((told) => {
    const { weight, scales } = int8Matrix(told, file);
    return [{ path: told.weight, data: new Uint8Array(weight.buffer) }, { path: told.scales, data: new Uint8Array(scales.buffer) }];
  });
}

/** The cache before the first token. */
function empty(ort: typeof Ort, { layers, kv_heads, head_dim, hidden, conv }: Manifest): Tensors {
  const zeros = (shape: number[]): Ort.Tensor => new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b)), shape);
  const made = layers.map((kind, i): Tensors => {
    if (kind === "conv") return { [`past_conv.${i}`]: zeros([1, hidden, conv - 1]) };
    const none = [1, kv_heads, 0, head_dim];
    return { [`past_key_values.${i}.key`]: zeros(none), [`past_key_values.${i}.value`]: zeros(none) };
  });
  return Object.assign({}, ...made) as Tensors;
}

function presentOf(past: string): string {
  return past.replace("past_key_values.", "present.").replace("past_conv.", "present_conv.");
}

function release({ tensors }: Cache): void {
  for (const tensor of Object.values(tensors)) if (tensor.location === "gpu-buffer") tensor.dispose();
}
