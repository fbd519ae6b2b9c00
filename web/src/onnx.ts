/** RuvLTRA on onnxruntime-web: its smallest wasm build, or the one that knows WebGPU. */
import type * as Ort from "onnxruntime-web";
import type { Site } from "./site.js";
import type { EncoderDevice } from "./types.js";

/** Token ids of one text to its raw vector. */
export interface Session {
  readonly device: EncoderDevice;
  /** Why it is not the device that was asked for; "" where it is. */
  readonly note: string;
  run(ids: BigInt64Array<ArrayBuffer>): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Threads that may help: none without shared memory. */
function threads(): number {
  if (!globalThis.crossOriginIsolated) return 1;
  return Math.max(1, Math.min(4, (globalThis.navigator?.hardwareConcurrency ?? 2) >> 1));
}

/** A GPU that this browser offers to pages, if any. */
export async function gpuAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> {
  const gpu = (globalThis.navigator as { gpu?: { requestAdapter(): ReturnType<typeof gpuAdapter> } } | undefined)?.gpu;
  return (await gpu?.requestAdapter().catch(() => null)) ?? null;
}

/** onnxruntime-web's small build, or the one that knows WebGPU; `wasm` is its binary where the host has to bring it (Node). */
export async function ortOf(site: Site, device: EncoderDevice, threads: number, wasm?: Uint8Array<ArrayBuffer>): Promise<typeof Ort> {
  const { module, mjs, wasm: binary } = device === "webgpu" ? site.index.llm.webgpu : site.index.ort;
  const ort = (await import(/* @vite-ignore */ site.module(module))) as typeof Ort;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: site.module(mjs), wasm: site.module(binary) };
  if (wasm) ort.env.wasm.wasmBinary = wasm.buffer;
  return ort;
}

/**
 * A session of a model, on wasm where a GPU was asked for and there is none that runs it.
 *
 * @param site where onnxruntime-web's files lie
 * @param model the graph's bytes; ids and an attention mask in, `(1, width)` out
 */
export async function openSession(site: Site, model: Uint8Array, device: EncoderDevice, wasm?: Uint8Array<ArrayBuffer>): Promise<Session> {
  let note = "";
  if (device === "webgpu") {
    try {
      if (await gpuAdapter()) return await opened(site, model, "webgpu", note);
      note = "this browser offers no GPU";
    } catch (error) {
      note = `the GPU does not run it: ${String(error)}`.slice(0, 300);
    }
    console.warn(`ruvllm: the encoder runs on wasm, since ${note}`);
  }
  return opened(site, model, "wasm", note, wasm);
}

async function opened(site: Site, model: Uint8Array, device: EncoderDevice, note: string, wasm?: Uint8Array<ArrayBuffer>): Promise<Session> {
  const ort = await ortOf(site, device, threads(), wasm);
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [device],
    graphOptimizationLevel: "all",
  });
  const output = session.outputNames[0] ?? "";
  let last: Promise<unknown> = Promise.resolve(); // one at a time: a session takes no second call
  const run = async (ids: BigInt64Array<ArrayBuffer>): Promise<Float32Array> => {
    const shape = [1, ids.length];
    const feeds = {
      input_ids: new ort.Tensor("int64", ids, shape),
      attention_mask: new ort.Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
    };
    const results = await session.run(feeds);
    return results[output]?.data as Float32Array;
  };
  return {
    device,
    note,
    run(ids) {
      const turn = last.then(() => run(ids));
      last = turn.catch(() => undefined);
      return turn;
    },
    close: () => session.release(),
  };
}
