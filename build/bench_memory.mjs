// Run by bench_memory_web.py: a job as JSON on stdin, one line of JSON on stdout.
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";

const say = (told) => console.log(JSON.stringify(told));

/** Times indexes of ours inside Pyodide; `script` leaves its answer in `told`. */
async function inPyodide({ pyodide, numpy, core, bench, folder, script }) {
  const { loadPyodide } = await import(pyodide);
  const py = await loadPyodide({ stdout: () => {} });
  py.unpackArchive(new Uint8Array(readFileSync(numpy)), "whl");
  for (const [path, root] of [["/core", core], ["/bench", bench], ["/data", folder]]) {
    py.FS.mkdirTree(path);
    py.FS.mount(py.FS.filesystems.NODEFS, { root }, path);
  }
  await py.runPythonAsync(script);
  say(JSON.parse(py.globals.get("told")));
}

/** Times hnswlib-wasm, which is made for pages: it asks for a window, and refuses where there is a `process`. */
async function hnswlib({ module, folder, size, asked, dim, m, build, efs, k }) {
  const floats = (name) => {
    const bytes = readFileSync(`${folder}/${name}`);
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  };
  const [vectors, queries] = [floats("vectors.f32"), floats("queries.f32")];
  const truth = JSON.parse(readFileSync(`${folder}/truth.json`, "utf8"));
  const [log, process] = [console.log, globalThis.process];
  Object.assign(globalThis, {
    window: globalThis,
    document: { currentScript: null },
    location: { href: "http://localhost/" },
  });
  globalThis.process = undefined;
  for (const name of ["log", "warn", "error"]) console[name] = () => {};
  const { loadHnswlib } = await import(module);
  const library = await loadHnswlib(); // it complains that there is no IndexedDB, which searching does not need
  const index = new library.HierarchicalNSW("ip", dim, "");
  index.initIndex(size, m, build, 1);
  const row = (table, i) => table.subarray(i * dim, (i + 1) * dim);
  let began = performance.now();
  for (let i = 0; i < size; i++) index.addPoint(row(vectors, i), i, false);
  const took = (performance.now() - began) / 1000;
  const points = efs.map((ef) => {
    index.setEfSearch(ef);
    const [times, found] = [[], [0]];
    for (let i = 0; i < asked; i++) {
      began = performance.now();
      const { neighbors } = index.searchKnn(row(queries, i), k, undefined);
      times.push(performance.now() - began);
      found[0] += neighbors.filter((id) => truth[i].includes(id)).length;
    }
    times.sort((a, b) => a - b);
    return { setting: ef, recall: found[0] / (asked * k), p50_ms: times[asked >> 1] };
  });
  Object.assign(globalThis, { process });
  console.log = log;
  say({ build_s: took, points });
}

const job = JSON.parse(readFileSync(0, "utf8"));
const { process: host } = globalThis;
try {
  await (job.module ? hnswlib(job) : inPyodide(job));
} catch (error) {
  host.stderr.write(`${String(error.message ?? error).slice(-1500)}\n`);
  host.exit(1);
}
host.exit(0); // hnswlib-wasm keeps timers
