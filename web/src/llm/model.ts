/** A language model in a worker of this page. */
import { proxy } from "comlink";
import { notNew, RuvllmError } from "../errors.js";
import { Life } from "../life.js";
import { options as plainOptions } from "../plain.js";
import { builtFolder, fetchIndex, folder } from "../websites.js";
import { checkConverted } from "./manifest.js";
import type { ChatAnswer, ChatMessage, ChatOptions, ModelInfo, ModelOptions } from "./types.js";
import type { RemoteModel } from "./worker.js";

/**
 * Answers with a model that `ruvllm models convert` wrote.
 *
 * What it has read of a conversation is kept, so that its next turn reads the new messages only.
 */
export class LocalModel {
  /** What was loaded, and on what it runs. */
  readonly info: ModelInfo;
  readonly #life: Life<RemoteModel>;
  #asked = 0;

  private constructor(info: ModelInfo, life: Life<RemoteModel>) {
    if (!life) throw notNew("LocalModel", "LocalModel.load(model)");
    this.info = info;
    this.#life = life;
  }

  /**
   * Load a model: the address of its folder, whose files this browser keeps, or the files themselves as a person picked
   * them (`<input type="file" webkitdirectory>`).
   *
   * @throws RuvllmError when a file is missing, damaged or cannot be reached, or memory does not suffice
   */
  static async load(model: string | URL | Iterable<File>, given?: ModelOptions): Promise<LocalModel> {
    const options = plainOptions(given);
    const { signal, onProgress, device, threads } = options;
    signal?.throwIfAborted();
    const named = typeof model === "string" || model instanceof URL;
    if (named) checkConverted(String(model));
    const base = builtFolder(options.baseURL, import.meta.url);
    const index = await fetchIndex(base);
    const life = new Life<RemoteModel>(new URL(index.llm.worker, base), "ruvllm-model", gone);
    const stop = (): void => life.end("loading was ended");
    signal?.addEventListener("abort", stop);
    try {
      // A browser may ask the person, who may never answer: nothing waits for it.
      if (named) void navigator.storage?.persist?.().catch(() => undefined);
      await life.watch();
      const job = { base: base.href, index, model: named ? folder(model).href : [...model], device, threads };
      const info = await life.ask((remote) => remote.start(job, proxy(onProgress ?? (() => undefined))), "model");
      const { quota = null, usage = null } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
      const persisted = info.kept && ((await navigator.storage?.persisted?.().catch(() => false)) ?? false);
      return new LocalModel({ ...info, persisted, quota, usage }, life);
    } catch (error) {
      life.end("it did not start");
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  /**
   * The answer to a conversation, whose last message is the question.
   *
   * @throws RuvllmError when the question does not fit the context, an option makes no sense, or the model failed
   */
  async chat(messages: readonly ChatMessage[], options?: ChatOptions): Promise<ChatAnswer> {
    const { onToken, signal, ...wanted } = plainOptions(options);
    const id = this.#asked++;
    const cancel = (): void => void this.#life.ask((remote) => remote.cancel(id)).catch(() => undefined);
    const asked = this.#life.ask((remote) => remote.answer(id, messages, wanted, proxy((text: string) => onToken?.(text))), "messages");
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel);
    try {
      return await asked;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  /** Let its memory go. */
  close(): void {
    this.#life.end("it was closed");
  }
}

function gone(why: string): RuvllmError {
  const fix = "load the model again; where memory was short, a smaller one";
  return new RuvllmError(`the model is gone: ${why}`, { name: "ClosedError", field: "model", fix });
}
