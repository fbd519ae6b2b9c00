/** The module worker of a language model: its memory goes with it, and the router's worker never waits for it. */
import { expose } from "comlink";
import { type Living, living, type Outcome } from "../crossing.js";
import { RuvllmError, toRuvllmError } from "../errors.js";
import type { SiteIndex } from "../site.js";
import { WebSite } from "../websites.js";
import { ModelEngine, type Wanted } from "./engine.js";
import { PickedSource, UrlSource } from "./source.js";
import type { ChatAnswer, ChatMessage, Device, ModelInfo, ModelProgress } from "./types.js";

/** What the worker needs to start. */
export interface ModelJob {
  base: string;
  index: SiteIndex;
  model: string | File[];
  device?: Device | undefined;
  threads?: number | undefined;
}

/** The worker's side. */
export interface RemoteModel extends Living {
  start(job: ModelJob, onProgress: (progress: ModelProgress) => void): Promise<Outcome<ModelInfo>>;
  answer(id: number, messages: readonly ChatMessage[], wanted: Wanted, say: (text: string) => void): Promise<Outcome<ChatAnswer>>;
  cancel(id: number): Promise<Outcome<null>>;
}

let engine: ModelEngine | undefined;
const asked = new Map<number, AbortController>();

async function outcome<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error: toRuvllmError(error, "model").toJSON() };
  }
}

/** One tab at a time fetches a model: the next one finds it whole. */
async function alone<T>(model: string | File[], work: () => Promise<T>): Promise<T> {
  const { locks } = globalThis.navigator;
  return typeof model === "string" && locks ? await locks.request(`ruvllm-model ${model}`, work) : work();
}

const remote: RemoteModel = {
  ...living,
  start(job, onProgress) {
    return outcome(async () => {
      const site = new WebSite(new URL(job.base), job.index);
      const source = { site, source: async (sha256: Parameters<typeof UrlSource.open>[1]) =>
        typeof job.model === "string" ? UrlSource.open(new URL(job.model), sha256) : new PickedSource(job.model) };
      engine = await alone(job.model, () => ModelEngine.open(source, { ...job, onProgress }));
      return engine.info;
    });
  },
  answer(id, messages, wanted, say) {
    return outcome(async () => {
      if (!engine) throw new RuvllmError("the worker has not been started");
      const control = new AbortController();
      asked.set(id, control);
      try {
        return await engine.answer(messages, wanted, say, control.signal);
      } finally {
        asked.delete(id);
      }
    });
  },
  async cancel(id) {
    asked.get(id)?.abort();
    return { value: null };
  },
};

expose(remote);
