// node turn.mjs < {"pyodide", "wheels", "repo", "folder"} as JSON: one turn inside Pyodide with folder/state.db.
// Prints the digest of the file as it came ("" for none), and of the file as it goes.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(0, "utf8"));
try {
  const { loadPyodide } = await import(pathToFileURL(`${job.pyodide}/pyodide.mjs`).href);
  const python = await loadPyodide({ indexURL: job.pyodide, env: { HOME: "/home/pyodide", PYTHONDONTWRITEBYTECODE: "1" } });
  const site = python.runPython("import site; site.getsitepackages()[0]");
  for (const wheel of job.wheels) python.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel", { extractDir: site });
  python.mountNodeFS("/repo", job.repo);
  python.mountNodeFS("/outside", job.folder);
  const told = python.runPython(`
import pathlib, shutil, sys
sys.path += ["/repo/core", "/repo/tests/pyodide"]
import turns
outside, inside = pathlib.Path("/outside/state.db"), pathlib.Path("/home/pyodide/state.db")
before = ""
if outside.exists():
    shutil.copyfile(outside, inside)
    before = turns.digest(inside)
after = turns.turn(inside)
shutil.copyfile(inside, outside)
f"{before} {after}"
`);
  console.log(told);
} catch (error) {
  console.error(String(error.message ?? error).slice(-2000)); // the rest is a megabyte of JavaScript
  process.exitCode = 3;
}
