/** Agent files from a drop or a file chooser: read as text, never run, never shown as markup. */
import type { AgentFile, Problem } from "../src/types.js";

const KINDS = /\.(mdc?|jsonc?|toml)$/i;
const MAX_BYTES = 2_000_000;
const MAX_FILES = 2_000;

export interface Gathered {
  files: AgentFile[];
  problems: Problem[];
}

interface Found {
  path: string;
  file: File;
}

/** Files of a chooser; with a folder chosen, each knows its path in it. */
export function fromInput(list: FileList): Promise<Gathered> {
  return read([...list].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
}

/** Files and folders of a drop. The entries must be taken before the first await. */
export async function fromDrop(transfer: DataTransfer): Promise<Gathered> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return fromInput(transfer.files);
  const found: Found[] = [];
  for (const entry of entries) await walk(entry, found);
  return read(found);
}

async function walk(entry: FileSystemEntry, found: Found[]): Promise<void> {
  if (found.length > MAX_FILES || entry.name === "node_modules" || entry.name === ".git") return;
  if (entry.isFile) {
    const file = await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail));
    found.push({ path: entry.fullPath.replace(/^\//, ""), file });
  } else if (entry.isDirectory) {
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const batch = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
      if (!batch.length) return;
      for (const child of batch) await walk(child, found);
    }
  }
}

async function read(found: Found[]): Promise<Gathered> {
  const problems: Problem[] = [];
  const wanted = found.filter(({ path }) => KINDS.test(path)).sort((a, b) => a.path.localeCompare(b.path));
  if (!wanted.length) {
    const message = found.length ? "no agent file among them" : "nothing was dropped";
    problems.push({ field: "files", message, fix: "drop a folder of .md files, or a .json or .toml file" });
  }
  if (wanted.length > MAX_FILES) {
    problems.push({ field: "files", message: `more than ${MAX_FILES} files; the rest was left out`, fix: "drop a smaller folder" });
  }
  const files: AgentFile[] = [];
  for (const { path, file } of wanted.slice(0, MAX_FILES)) {
    if (file.size > MAX_BYTES) {
      problems.push({ field: path, message: `${file.size} bytes`, fix: `keep it under ${MAX_BYTES}` });
      continue;
    }
    try {
      files.push({ path, text: new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()) });
    } catch {
      problems.push({ field: path, message: "not readable as UTF-8 text", fix: "save it as UTF-8" });
    }
  }
  return { files, problems };
}
