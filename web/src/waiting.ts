/** What a caller hears while it waits, and how it stops waiting. */
import { options } from "./plain.js";
import type { LoadOptions, LoadProgress, ProgressInfo, Stage } from "./types.js";

/**
 * Some work, for as long as its caller waits for it.
 *
 * @throws the signal's reason, once it is aborted
 */
export function until<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (!signal) return work();
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason);
    signal.addEventListener("abort", stop);
    work().then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/** Load options as given, whose `onProgress` tells `progress_callback` too. */
export function loadOptions(given: LoadOptions | undefined): LoadOptions {
  const { progress_callback: call, onProgress, ...rest } = options(given);
  const listen = call ? both(onProgress, call) : onProgress;
  return listen ? { ...rest, onProgress: listen } : rest;
}

function both(onProgress: LoadOptions["onProgress"], call: (info: ProgressInfo) => void): (progress: LoadProgress) => void {
  const begun = new Set<Stage>();
  return (progress) => {
    onProgress?.(progress);
    const { stage, loaded, total } = progress;
    const about = { name: "ruvllm", file: stage };
    if (!begun.has(stage)) call({ status: "initiate", ...about });
    begun.add(stage);
    call({ status: "progress", ...about, progress: total ? (100 * loaded) / total : 100, loaded, total });
    if (loaded >= total) call(stage === "ready" ? { status: "ready", ...about } : { status: "done", ...about });
  };
}
