/** The manifest of a converted model: which files there are, and what they must be. */
import { RuvllmError } from "../errors.js";
import type { PackedMatrix } from "./pack.js";

export const MANIFEST = "ruvllm-model.json";
const CONVERT = "ruvllm models convert";

export interface ModelFile {
  name: string;
  bytes: number;
  sha256: string;
}

/** What a page reads of it; Python checks the rest. */
export interface Manifest {
  architecture: string;
  context: number;
  vocabulary: number;
  layers: string[];
  hidden: number;
  kv_heads: number;
  head_dim: number;
  conv: number;
  files: ModelFile[];
  /** The graph for WebAssembly and what its matrices are made from; none where the plain one serves. */
  web?: { graph: string; matrices: PackedMatrix[] };
}

export function badModel(message: string, field: string, fix = `convert the model again: ${CONVERT}`): RuvllmError {
  return new RuvllmError(message, { name: "ArtifactError", field, fix });
}

/** Refuse weights that a model is made of, by the name of their file. */
export function checkConverted(place: string): void {
  const name = place.replace(/[?#].*/s, "").split(/[/\\]/).at(-1) ?? "";
  if (!/\.(gguf|safetensors)$/i.test(name)) return;
  throw badModel(`${name} has to be converted first`, "model", `run \`${CONVERT} ${name} --out FOLDER\` where Python is, then give FOLDER`);
}

/** A manifest, if the text is one that names its files. */
export function parseManifest(text: string, where: string): Manifest {
  const told = json(text) as (Partial<Manifest> & { format?: unknown }) | null;
  if (told?.format !== 1 || !Array.isArray(told.layers) || !Array.isArray(told.files)) {
    throw badModel(`${where} is not the manifest of a converted model`, MANIFEST, `give a folder that \`${CONVERT}\` wrote`);
  }
  for (const file of told.files as Partial<ModelFile>[]) {
    const plain = typeof file?.name === "string" && /^[\w.-]+$/.test(file.name);
    if (!plain || !Number.isSafeInteger(file.bytes) || !/^[0-9a-f]{64}$/.test(String(file.sha256))) {
      throw badModel(`${where} names a file without its size and SHA-256`, "files");
    }
  }
  return told as Manifest;
}

/** null for a server's error page, which is no JSON. */
function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The files that a device needs: one of the two graphs, and everything else. */
export function neededFiles(manifest: Manifest, graph: string): ModelFile[] {
  return manifest.files.filter((file) => !file.name.endsWith(".onnx") || file.name === graph);
}

export function fileOf(manifest: Manifest, name: string): ModelFile {
  const file = manifest.files.find((one) => one.name === name);
  if (file) return file;
  throw badModel(`the manifest lists no ${name}`, name);
}
