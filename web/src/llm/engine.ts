/** A language model in this thread: Python reads and writes its words, onnxruntime-web runs its graph. */
import type * as Ort from "onnxruntime-web";
import type { PyodideInterface } from "pyodide";
import { closedError, RuvllmError, toRuvllmError } from "../errors.js";
import { gpuAdapter, ortOf } from "../onnx.js";
import { json } from "../plain.js";
import { bootPython, installPackages, open, pythonDigest } from "../python.js";
import ANSWERS from "../python/answers.py?raw";
import CHAT from "../python/chat.py?raw";
import { readChecked, sha256, type Site } from "../site.js";
import type { Sha256 } from "./fetch.js";
import { fileOf, type Manifest, MANIFEST, neededFiles, parseManifest } from "./manifest.js";
import { Decoder, graphOf } from "./session.js";
import type { ModelSource } from "./source.js";
import type { ChatAnswer, ChatMessage, ChatOptions, Device, ModelInfo, ModelProgress } from "./types.js";

const FOLDER = "/home/pyodide/ruvllm_web";
const TEMPLATE = "chat_template.jinja";

/** src/python/chat.py. */
interface Chat {
  answer(messages: string, params: string, say: (text: string) => void): Parameters<typeof open>[0];
  cancel(): void;
}

/** What a host brings. */
export interface ModelSurroundings {
  site: Site;
  source(sha256: Sha256): Promise<ModelSource>;
  /** Reads onnxruntime's binary where it cannot be fetched (Node). */
  ortBinary?: (() => Promise<Uint8Array<ArrayBuffer>>) | undefined;
}

export interface EngineOptions {
  device?: Device | undefined;
  threads?: number | undefined;
  onProgress?: ((progress: ModelProgress) => void) | undefined;
}

/** What can cross to a worker of a chat's options. */
export type Wanted = Omit<ChatOptions, "onToken" | "signal">;

const PARAMS: Record<keyof Wanted, string> = {
  maxTokens: "max_tokens", temperature: "temperature", topK: "top_k", topP: "top_p", minP: "min_p",
  repeatPenalty: "repeat_penalty", stop: "stop", seed: "seed",
};

/** Python's names for what was given. */
function params(wanted: Wanted): string {
  const given = Object.entries(wanted);
  for (const [name] of given) {
    if (name in PARAMS) continue;
    throw new RuvllmError(`${name} is no option`, { name: "InputError", field: name, fix: `use ${Object.keys(PARAMS).join(", ")}` });
  }
  return json(Object.fromEntries(given.map(([name, value]) => [PARAMS[name as keyof Wanted], value])));
}

/** A conversation as JSON. */
function written(messages: readonly ChatMessage[]): string {
  const isMessage = (one: Partial<ChatMessage> | null): boolean => typeof one?.role === "string" && typeof one.content === "string";
  if (Array.isArray(messages) && messages.every(isMessage)) return json({ messages });
  throw new RuvllmError("messages is no conversation", { name: "InputError", field: "messages", fix: "pass a list of {role, content}" });
}

/** Answers in this thread, one question after the other. */
export class ModelEngine {
  readonly info: ModelInfo;
  readonly #chat: Chat;
  readonly #decoder: Decoder;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(info: ModelInfo, chat: Chat, decoder: Decoder) {
    this.info = info;
    this.#chat = chat;
    this.#decoder = decoder;
  }

  /** Fetch, check and start a model. */
  static async open(around: ModelSurroundings, options: EngineOptions): Promise<ModelEngine> {
    const { site } = around;
    const booting = bootPython(site, true).then(({ python }) => python);
    booting.catch(() => undefined); // awaited below, after what may fail first
    const digest: Sha256 = async (data) => (await sha256(data)) ?? pythonDigest(await booting)(data);
    const source = await around.source(digest);
    const text = await source.manifest();
    const manifest = parseManifest(text, `${source.name}/${MANIFEST}`);
    const device = await deviceOf(options.device ?? "auto");
    const files = await readAll(source, manifest, device, digest, options.onProgress);
    const total = [...files.values()].reduce((sum, data) => sum + data.length, 0);
    const tell = (stage: "start" | "ready"): void => options.onProgress?.({ stage, loaded: total, total, file: "" });
    tell("start");
    const python = await booting;
    await install(python, site, files.has(TEMPLATE), async () => pythonDigest(python));
    const { ort, threads } = await runtime(around, device, options.threads);
    let decoder: Decoder;
    try {
      decoder = await Decoder.open(ort, manifest, files, device);
    } catch (error) {
      if (error instanceof RuvllmError) throw error;
      const fix = "close other pages, or use a smaller model or fewer bits";
      throw new RuvllmError(`the graph cannot be loaded: ${String((error as Error).message ?? error).slice(0, 300)}`, { name: "ModelError", field: "model", fix, cause: error });
    }
    const read = (name: string): string => new TextDecoder().decode(files.get(name));
    const chat = openChat(python, source.name, text, read("tokenizer.json"), files.has(TEMPLATE) ? read(TEMPLATE) : "", decoder);
    const { architecture, context, vocabulary } = manifest;
    const kept = { kept: source.kept, persisted: false, quota: null, usage: null };
    tell("ready");
    return new ModelEngine({ name: source.name, architecture, context, vocabulary, device, threads, bytes: total, ...kept }, chat, decoder);
  }

  /** The answer to a conversation, when those before it have been answered. */
  answer(messages: readonly ChatMessage[], wanted: Wanted, say: (text: string) => void, signal?: AbortSignal): Promise<ChatAnswer> {
    const [asked, given] = [written(messages), params(wanted)];
    const turn = this.#last.then(async () => {
      if (this.#closed) throw closedError("model");
      const answer = this.#chat.answer(asked, given, say);
      const cancel = (): void => this.#chat.cancel();
      if (signal?.aborted) cancel();
      signal?.addEventListener("abort", cancel);
      try {
        return await open<ChatAnswer>(answer);
      } finally {
        signal?.removeEventListener("abort", cancel);
      }
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#chat.cancel();
    await this.#last;
    await this.#decoder.close();
  }
}

/** All files that a device needs, by name. */
async function readAll(
  source: ModelSource, manifest: Manifest, device: "webgpu" | "wasm", digest: Sha256, tell?: (progress: ModelProgress) => void,
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const needed = neededFiles(manifest, fileOf(manifest, graphOf(manifest, device)).name);
  fileOf(manifest, "tokenizer.json");
  const here = new Map<string, number>();
  for (const file of needed) here.set(file.name, await source.has(file));
  const sum = (): number => [...here.values()].reduce((a, b) => a + b, 0);
  const total = needed.reduce((bytes, file) => bytes + file.bytes, 0);
  await source.reserve?.(total - sum());
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const file of needed) {
    const came = (bytes: number): void => {
      here.set(file.name, bytes);
      tell?.({ stage: "download", loaded: sum(), total, file: file.name });
    };
    files.set(file.name, await source.read(file, digest, came));
  }
  await source.settle(manifest.files);
  return files;
}

async function deviceOf(asked: Device): Promise<"webgpu" | "wasm"> {
  if (!["auto", "webgpu", "wasm"].includes(asked)) {
    throw new RuvllmError(`device is ${String(asked)}`, { name: "InputError", field: "device", fix: "use auto, webgpu or wasm" });
  }
  if (asked === "wasm") return "wasm";
  const adapter = await gpuAdapter();
  // A fallback adapter is the processor in disguise, and slower than the processor itself.
  if (adapter && (asked === "webgpu" || !adapter.info?.isFallbackAdapter)) return "webgpu";
  if (asked === "auto") return "wasm";
  throw new RuvllmError("this browser offers no GPU", { name: "InputError", field: "device", fix: "use auto or wasm" });
}

/** onnxruntime-web: the small build, or the one that knows WebGPU. */
async function runtime(
  around: ModelSurroundings, device: "webgpu" | "wasm", asked: number | undefined,
): Promise<{ ort: typeof Ort; threads: number }> {
  const { site, ortBinary } = around;
  const cores = globalThis.navigator?.hardwareConcurrency ?? 2;
  const threads = globalThis.crossOriginIsolated && device === "wasm" ? Math.max(1, Math.min(asked ?? Math.max(2, cores - 1), cores, 8)) : 1;
  return { ort: await ortOf(site, device, threads, await ortBinary?.()), threads };
}

async function install(python: PyodideInterface, site: Site, template: boolean, byHand: () => Promise<(data: Uint8Array) => string>): Promise<void> {
  const files = [...site.index.packages, ...(template ? [site.index.llm.jinja] : [])];
  const read = await Promise.all(files.map(async (file) => [file, await readChecked(site, file, byHand)] as [string, Uint8Array]));
  installPackages(python, read);
}

function openChat(python: PyodideInterface, name: string, manifest: string, tokenizer: string, template: string, decoder: Decoder): Chat {
  python.FS.mkdirTree(FOLDER);
  python.FS.writeFile(`${FOLDER}/chat.py`, CHAT);
  python.FS.writeFile(`${FOLDER}/answers.py`, ANSWERS);
  const module = python.pyimport("ruvllm_web.chat") as { Chat: (...args: unknown[]) => Chat; destroy(): void };
  try {
    return module.Chat(name, manifest, tokenizer, template, decoder);
  } catch (error) {
    throw unreadable(error);
  } finally {
    module.destroy();
  }
}

function unreadable(error: unknown): RuvllmError {
  const fix = "convert the model again: ruvllm models convert";
  const { message } = toRuvllmError(error);
  return new RuvllmError(`the model's words cannot be read: ${message.slice(0, 300)}`, { name: "ArtifactError", field: "model", fix, cause: error });
}
