/** RuvLTRA on onnxruntime-web's smallest wasm build. */
import type * as Ort from "onnxruntime-web";
import type { Site } from "./site.js";

/** Token ids of one text to its raw vector. */
export interface Session {
  run(ids: BigInt64Array<ArrayBuffer>): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Threads that may help: none without shared memory. */
function threads(): number {
  if (!globalThis.crossOriginIsolated) return 1;
  return Math.max(1, Math.min(4, (globalThis.navigator?.hardwareConcurrency ?? 2) >> 1));
}

/**
 * A session of a model.
 *
 * @param site where onnxruntime-web's files lie
 * @param model the graph's bytes; ids and an attention mask in, `(1, width)` out
 * @param wasm onnxruntime's binary, where the host has to bring it (Node); fetched otherwise
 */
export async function openSession(site: Site, model: Uint8Array, wasm?: Uint8Array<ArrayBuffer>): Promise<Session> {
  const { module, mjs, wasm: binary } = site.index.ort;
  const ort = (await import(/* @vite-ignore */ site.module(module))) as typeof Ort;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads();
  ort.env.wasm.wasmPaths = { mjs: site.module(mjs), wasm: site.module(binary) };
  if (wasm) ort.env.wasm.wasmBinary = wasm.buffer;
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["wasm"],
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
    run(ids) {
      const turn = last.then(() => run(ids));
      last = turn.catch(() => undefined);
      return turn;
    },
    close: () => session.release(),
  };
}
