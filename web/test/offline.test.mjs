// The service worker of the built folder: node --test (after build/web.py).
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { Caches, Client, Server, Worker } from "./browser.mjs";

const BASE = "https://example.org/ruvllm/";
const OTHER = "https://example.org/elsewhere/";
const NEXT = "0123456789abcdef";
const PAGE = "<!doctype html><title>The next one</title>";
const offline = () => {
  throw new TypeError("Failed to fetch");
};

let server;
let caches;
let page;
let own; // the name of this build's cache

beforeEach(() => {
  server = new Server(BASE);
  caches = new Caches();
  page = new Client("1", BASE);
  own = `ruvllm-${server.index().build}`;
});

const worker = (options) => new Worker(server, caches, { pages: [page], ...options });
const urls = async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url);
const told = (kind) => page.heard.filter((news) => news.kind === kind);

async function installed(options) {
  const made = worker(options);
  await made.fire("install");
  return made;
}

/** The news of a fill that must fail. */
async function failed(made) {
  await assert.rejects(made.fire("install"));
  const [news] = told("failed");
  assert.ok(news?.message && news.fix, JSON.stringify(page.heard));
  return news;
}

describe("a first visit", () => {
  test("keeps every file of the index but those on demand, each fetched once, and counts its bytes", async () => {
    await installed();
    const { files } = server.index();
    const wanted = Object.keys(files).filter((file) => !/jinja2|webgpu/.test(file));
    const places = wanted.map((file) => (file === "index.html" ? BASE : BASE + file));
    assert.deepEqual((await urls(own)).sort(), [...places, `${BASE}ruvllm.json`].sort());
    assert.deepEqual(server.asked.sort(), [...wanted, "ruvllm.json"].sort());
    assert.deepEqual(await caches.keys(), [own]);
    const total = wanted.reduce((sum, file) => sum + files[file].bytes, 0);
    const steps = told("filling");
    for (const [i, step] of steps.entries()) {
      assert.equal(step.total, total);
      assert.ok(step.loaded <= total && (i === 0 || step.loaded >= steps[i - 1].loaded));
    }
    assert.equal(page.heard.at(-1).kind, "kept");
  });

  test("makes the next one work without a network", async () => {
    const made = await installed();
    server.fetch = offline;
    const { files, worker: script } = server.index();
    for (const place of [BASE, `${BASE}index.html`, `${BASE}?from=mail`, `${BASE}#team`]) {
      const response = await made.answer(place, { mode: "navigate" });
      assert.equal((await response.text()).length, files["index.html"].bytes, place);
    }
    const response = await made.answer(BASE + script);
    assert.equal(response.headers.get("x-file"), script); // with the server's own headers, and so its policy
    assert.equal((await (await made.answer(`${BASE}ruvllm.json`)).json()).build, server.index().build);
  });

  test("is kept, too, by a browser without navigator.storage", async () => {
    await installed({ storage: false });
    assert.equal(page.heard.at(-1).kind, "kept");
  });

  test("leaves alone what is not the folder's", async () => {
    const made = await installed();
    for (const place of [OTHER, "https://example.com/ruvllm/", `${BASE}ruvllm.json?fresh`]) {
      assert.equal(await made.answer(place), undefined, place);
    }
    assert.equal(await made.answer(BASE, { method: "POST" }), undefined);
  });

  test("keeps what is on demand when it passes, if it is whole", async () => {
    const made = await installed();
    const templates = Object.keys(server.index().files).find((file) => file.includes("jinja2"));
    server.changed.set(templates, "half of it");
    await made.answer(BASE + templates);
    assert.ok(!(await urls(own)).includes(BASE + templates));
    server.changed.delete(templates);
    await made.answer(BASE + templates);
    assert.ok((await urls(own)).includes(BASE + templates));
  });
});

describe("a fill that fails", () => {
  test("for a file that is not the index's: tried once more, told, nothing used", async () => {
    server.changed.set("element.js", "// another one");
    const news = await failed(worker());
    assert.equal(news.reason, "damaged");
    assert.match(news.message, /element\.js/);
    assert.equal(server.asked.filter((file) => file === "element.js").length, 2);
    assert.ok(!(await urls(own)).includes(`${BASE}ruvllm.json`));
  });

  test("for another build's index: the server is being changed", async () => {
    const made = worker();
    await server.deploy(NEXT, PAGE);
    assert.equal((await failed(made)).reason, "changing");
    assert.deepEqual(await caches.keys(), []);
  });

  test("for want of space, seen before or in the middle: what it took is given back", async () => {
    assert.equal((await failed(worker({ quota: 1e7 }))).reason, "space");
    page.heard = [];
    caches.beforePut = (url) => {
      if (url.endsWith(".onnx")) throw new DOMException("full", "QuotaExceededError");
    };
    assert.equal((await failed(worker())).reason, "space");
    assert.deepEqual(await caches.keys(), []);
  });

  test("for a lost connection: the next try takes up what has come", async () => {
    server.changed.set("element.js", offline);
    assert.equal((await failed(worker())).reason, "network");
    const before = await urls(own);
    server.changed.delete("element.js");
    server.asked = [];
    await installed();
    for (const url of before) assert.ok(!server.asked.includes(url.slice(BASE.length) || "index.html"), url);
    assert.equal(page.heard.at(-1).kind, "kept");
  });
});

describe("an update", () => {
  test("brings only what is new, beside the version in use, which stays whole until it goes", async () => {
    const old = await installed();
    const before = await (await old.answer(BASE, { mode: "navigate" })).text();
    await server.deploy(NEXT, PAGE);
    server.asked = [];
    const next = await installed();
    assert.deepEqual(server.asked.sort(), ["index.html", "ruvllm.json"]);
    assert.equal(await (await old.answer(BASE, { mode: "navigate" })).text(), before);
    assert.equal((await (await old.answer(`${BASE}ruvllm.json`)).json()).build, own.slice("ruvllm-".length));
    assert.equal(await (await next.answer(BASE, { mode: "navigate" })).text(), PAGE);
    assert.equal((await (await next.answer(`${BASE}ruvllm.json`)).json()).build, NEXT);
  });

  test("removes the old version's files of this folder, and nothing else, once it is used", async () => {
    await installed();
    const put = async (name, url) => (await caches.open(name)).put(url, new Response("x"));
    await put("ruvllm-snapshot", `${BASE}pyodide/memory-snapshot`);
    await put("somebody-else", `${BASE}index.html`);
    await put(own, `${OTHER}ruvllm.js`);
    await server.deploy(NEXT, PAGE);
    const next = await installed();
    await next.fire("activate");
    assert.deepEqual((await caches.keys()).sort(), [`ruvllm-${NEXT}`, own, "ruvllm-snapshot", "somebody-else"].sort());
    assert.deepEqual(await urls(own), [`${OTHER}ruvllm.js`]);
  });

  test("does not take the place of the version that another tab uses", async () => {
    const pages = [page, new Client("2", `${BASE}#team`), new Client("3", OTHER)];
    const made = worker({ pages });
    const ask = { data: { ruvllm: "take over" }, source: page };
    await made.fire("message", ask);
    assert.deepEqual(told("busy"), [{ kind: "busy", tabs: 1 }]);
    assert.equal(made.skipped, false);
    pages.splice(1, 1);
    await made.fire("message", ask);
    assert.equal(made.skipped, true);
  });

  test("a version in use whose cache was cleared is filled again when a page asks", async () => {
    const made = await installed();
    await caches.delete(own);
    page.heard = [];
    await made.fire("message", { data: { ruvllm: "check" }, source: page });
    assert.equal(page.heard.at(-1).kind, "kept");
    server.fetch = offline;
    assert.equal((await made.answer(BASE, { mode: "navigate" })).status, 200);
  });
});
