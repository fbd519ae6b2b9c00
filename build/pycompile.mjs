// node pycompile.mjs PYODIDE_FOLDER < [{"source", "target", "drop"}, …] as JSON: compiles archives inside Pyodide.
// `drop` is a pattern of what to leave out; where `first` names files, of others source is wanted.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const folder = process.argv[2];
try {
  const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`).href);
  const python = await loadPyodide({ indexURL: folder });
  python.runPython(readFileSync(fileURLToPath(new URL("pycompile.py", import.meta.url)), "utf8"));
  const run = python.globals.get("run");
  for (const { source, target, drop, first } of JSON.parse(readFileSync(0, "utf8"))) {
    python.FS.writeFile("/in.zip", new Uint8Array(readFileSync(source)));
    const leftOut = run("/in.zip", "/out.zip", drop, python.toPy(first));
    writeFileSync(target, python.FS.readFile("/out.zip"));
    console.log(`${source}: ${leftOut} files left out`);
  }
} catch (error) {
  console.error(String(error.message).slice(-2000)); // the rest is a megabyte of JavaScript
  process.exitCode = 1;
}
