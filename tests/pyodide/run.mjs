// node run.mjs < {"pyodide", "wheels", "site", "repo", "outcomes", "options"} as JSON: pytest inside Pyodide.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(0, "utf8"));
try {
  const { loadPyodide } = await import(pathToFileURL(`${job.pyodide}/pyodide.mjs`).href);
  const env = { HOME: "/home/pyodide", PYTHONDONTWRITEBYTECODE: "1", RUVLLM_OUTCOMES: "/outcomes.json" };
  const python = await loadPyodide({ indexURL: job.pyodide, env });
  const site = python.runPython("import site; site.getsitepackages()[0]");
  for (const wheel of job.wheels) python.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel", { extractDir: site });
  python.mountNodeFS("/tools", job.site);
  python.mountNodeFS("/repo", job.repo);
  python.globals.set("options", python.toPy(job.options));
  process.exitCode = python.runPython(`
import os, sys
sys.path += ["/tools", "/repo/core", "/repo/models", "/repo/tests/bench", "/repo/tests/pyodide"]
os.chdir("/repo")
import pytest
int(pytest.main(options))
`);
  if (python.FS.analyzePath("/outcomes.json").exists) writeFileSync(job.outcomes, python.FS.readFile("/outcomes.json"));
} catch (error) {
  console.error(String(error.message ?? error).slice(-2000)); // the rest is a megabyte of JavaScript
  process.exitCode = 3;
}
