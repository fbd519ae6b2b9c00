/** A language model in Node: in this process, from a folder on disk. */
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { builtHere, bytesOf, diskSite, folder } from "../disk.js";
import { notNew, RuvllmError } from "../errors.js";
import { options as plainOptions } from "../plain.js";
import { Ledger } from "../site.js";
import { ModelEngine } from "./engine.js";
import type { Sha256 } from "./fetch.js";
import { badModel, checkConverted, MANIFEST, type ModelFile } from "./manifest.js";
import type { ModelSource } from "./source.js";
import type { ChatAnswer, ChatMessage, ChatOptions, ModelInfo, ModelOptions } from "./types.js";

const FIX = "give a folder that `ruvllm models convert` wrote";

/** A folder as the converter wrote it. */
class FolderSource implements ModelSource {
  readonly name: string;
  readonly kept = true;
  readonly #base: URL;

  constructor(base: URL) {
    this.#base = base;
    this.name = basename(fileURLToPath(base));
  }

  async manifest(): Promise<string> {
    return new TextDecoder().decode(await bytesOf(new URL(MANIFEST, this.#base), FIX));
  }

  async has(file: ModelFile): Promise<number> {
    return file.bytes;
  }

  async read(file: ModelFile, sha256: Sha256, came: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>> {
    const data = await bytesOf(new URL(file.name, this.#base), FIX);
    if (data.length !== file.bytes || (await sha256(data)) !== file.sha256) {
      throw badModel(`${file.name} is not the file that the manifest names: its SHA-256 or size differs`, file.name);
    }
    came(file.bytes);
    return data;
  }

  async settle(): Promise<void> {
    // the folder is all there is
  }
}

/** Answers in this process; while it computes, nothing else does. */
export class LocalModel {
  readonly info: ModelInfo;
  readonly #engine: ModelEngine;

  private constructor(engine: ModelEngine) {
    if (!(engine instanceof ModelEngine)) throw notNew("LocalModel", "LocalModel.load(model)");
    this.info = engine.info;
    this.#engine = engine;
  }

  /** Load the model of a folder, a path or a file URL. */
  static async load(model: string | URL, given?: ModelOptions): Promise<LocalModel> {
    const options = plainOptions(given);
    if (typeof model !== "string" && !(model instanceof URL)) {
      throw new RuvllmError("Node reads a model from its folder", { name: "InputError", field: "model", fix: FIX });
    }
    checkConverted(String(model));
    const site = await diskSite(options.baseURL ?? builtHere(), new Ledger());
    const source = new FolderSource(folder(model));
    const around = { site, source: async () => source, ortBinary: () => site.read(site.index.ort.wasm) };
    return new LocalModel(await ModelEngine.open(around, { device: "wasm", onProgress: options.onProgress }));
  }

  /** As in a page. */
  async chat(messages: readonly ChatMessage[], options?: ChatOptions): Promise<ChatAnswer> {
    const { onToken, signal, ...wanted } = plainOptions(options);
    return this.#engine.answer(messages, wanted, (text) => onToken?.(text), signal);
  }

  /** Let its memory go. */
  close(): Promise<void> {
    return this.#engine.close();
  }
}
