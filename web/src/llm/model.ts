/** A language model in a worker of this page. */
import { proxy, type Remote, releaseProxy, wrap } from "comlink";
import type { Outcome } from "../crossing.js";
import { RuvllmError, toRuvllmError } from "../errors.js";
import { startWorker } from "../client.js";
import { fetchIndex, folder } from "../websites.js";
import type { Wanted } from "./engine.js";
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
  readonly #life: Life;
  #asked = 0;

  private constructor(info: ModelInfo, life: Life) {
    this.info = info;
    this.#life = life;
  }

  /**
   * Load a model: the address of its folder, whose files this browser keeps, or the files themselves as a person picked
   * them (`<input type="file" webkitdirectory>`).
   *
   * @throws RuvllmError when a file is missing, damaged or cannot be reached, or memory does not suffice
   */
  static async load(model: string | URL | Iterable<File>, options: ModelOptions = {}): Promise<LocalModel> {
    const { signal, onProgress, device, threads } = options;
    signal?.throwIfAborted();
    const base = folder(options.baseURL ?? new URL(/* @vite-ignore */ "./", import.meta.url));
    const named = typeof model === "string" || model instanceof URL;
    const index = await fetchIndex(base);
    const life = new Life(new URL(index.llm.worker, base));
    const stop = (): void => life.end("loading was ended");
    signal?.addEventListener("abort", stop);
    try {
      const persisted = named ? await persist() : false;
      const job = { base: base.href, index, model: named ? folder(model).href : [...model], device, threads, life: life.name };
      const info = await life.answered(life.remote.start(job, proxy(onProgress ?? (() => undefined))));
      life.watch();
      const { quota = null, usage = null } = (await navigator.storage?.estimate?.()) ?? {};
      return new LocalModel({ ...info, persisted: info.kept && persisted, quota, usage }, life);
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
  async chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<ChatAnswer> {
    const { onToken, signal, ...wanted } = options;
    const id = this.#asked++;
    const cancel = (): void => void this.#life.remote.cancel(id);
    const said = proxy((text: string) => onToken?.(text));
    const asked = this.#life.answered(
      (this.#life.remote.answer(id, messages, wanted satisfies Wanted, said) as Promise<Outcome<ChatAnswer>>)
        .catch((error: unknown) => ({ error: toRuvllmError(error, "messages").toJSON() })),
    );
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

/** Ask the browser not to clear this site's files away by itself. */
async function persist(): Promise<boolean> {
  try {
    return (await navigator.storage.persisted()) || (await navigator.storage.persist());
  } catch {
    return false; // plain http, or an old browser
  }
}

/** A worker from its start to its end. */
class Life {
  readonly name = `ruvllm-model-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  readonly remote: Remote<RemoteModel>;
  readonly #worker: Worker;
  readonly #died: Promise<string>;
  #die: (why: string) => void = () => undefined;

  constructor(script: URL) {
    this.#died = new Promise((resolve) => (this.#die = resolve));
    this.#worker = startWorker(script, "ruvllm-model");
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.end(event.message || "its script could not be loaded");
    });
    this.remote = wrap<RemoteModel>(this.#worker);
  }

  /** The worker holds a lock as long as it lives, so it is granted here once it is gone. */
  watch(): void {
    void navigator.locks?.request(this.name, () => this.#die("it stopped")).catch(() => undefined);
  }

  /** A value, or the error it tells, or that the worker is gone. */
  async answered<T>(reply: Promise<Outcome<T>>): Promise<T> {
    const outcome = await Promise.race([reply, this.#died]);
    if (typeof outcome === "string") {
      const fix = "load the model again; where memory was short, a smaller one";
      throw new RuvllmError(`the model is gone: ${outcome}`, { name: "ClosedError", field: "model", fix });
    }
    if ("error" in outcome) throw new RuvllmError(outcome.error.message, outcome.error);
    return outcome.value;
  }

  end(why: string): void {
    this.#die(why);
    this.remote[releaseProxy]();
    this.#worker.terminate();
  }
}
