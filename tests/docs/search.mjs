// Asks a built guide's own search worker: node search.mjs GUIDE, questions as JSON on stdin; places of the hits on stdout.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { runInThisContext } from "node:vm";

const guide = process.argv[2];
const workers = join(guide, "assets", "javascripts", "workers");
const file = readdirSync(workers).find((name) => /^search\..*\.js$/.test(name));
const answers = [];
const waiting = [];
globalThis.self = globalThis;
globalThis.postMessage = (message) => (waiting.length ? waiting.shift()(message) : answers.push(message));
globalThis.importScripts = () => undefined;
const listeners = [];
globalThis.addEventListener = (name, listener) => name === "message" && listeners.push(listener);
runInThisContext(readFileSync(join(workers, file), "utf8"));

const ask = (data) =>
  new Promise((resolve) => {
    waiting.push(resolve);
    for (const listener of listeners) listener({ data });
  });
const index = JSON.parse(readFileSync(join(guide, "search", "search_index.json"), "utf8"));
await ask({ type: 0, data: { ...index, options: { suggest: false } } });
const found = [];
for (const question of JSON.parse(readFileSync(0, "utf8"))) {
  const { data } = await ask({ type: 2, data: question });
  found.push((data.items ?? []).map((group) => group.map(({ location }) => location)));
}
console.log(JSON.stringify(found));
