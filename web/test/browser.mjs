// The little of a browser that a service worker sees: caches, pages, and a server that sends a built folder.
import { readFileSync } from "node:fs";

const DIST = new URL("../dist/", import.meta.url);

/** What a static host holds: web/dist, with some of its files replaced. */
export class Server {
  /** Paths asked for, in order. */
  asked = [];
  /** Answers that differ from the folder's: file to text, or a function that throws. */
  changed = new Map();

  constructor(base) {
    this.base = base;
  }

  fetch = async (input) => {
    const url = new URL(typeof input === "string" ? input : input.url);
    const file = url.pathname.slice(new URL(this.base).pathname.length) || "index.html";
    this.asked.push(file);
    const change = this.changed.get(file);
    if (typeof change === "function") return change();
    return new Response(change ?? readFileSync(new URL(file, DIST)), { headers: { "x-file": file } });
  };

  text(file) {
    return this.changed.get(file) ?? readFileSync(new URL(file, DIST), "utf8");
  }

  index() {
    return JSON.parse(this.text("ruvllm.json"));
  }

  /** Put another build there, whose page differs and nothing else. */
  async deploy(build, page) {
    const index = this.index();
    const script = this.text("sw.js").replace(index.build, build);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(page)));
    index.files["index.html"] = { bytes: page.length, sha256: Buffer.from(digest).toString("hex") };
    index.build = build;
    this.changed.set("index.html", page).set("ruvllm.json", JSON.stringify(index)).set("sw.js", script);
  }
}

/** Cache Storage, in memory. */
export class Caches {
  #caches = new Map();
  /** Called before each put; may throw what a full disk throws. */
  beforePut = () => undefined;

  async keys() {
    return [...this.#caches.keys()];
  }

  async open(name) {
    if (!this.#caches.has(name)) this.#caches.set(name, new Map());
    const held = this.#caches.get(name);
    return {
      put: async (url, response) => {
        this.beforePut(url);
        held.set(url, { headers: [...response.headers], body: await response.arrayBuffer() });
      },
      keys: async () => [...held.keys()].map((url) => ({ url })),
      delete: async (request) => held.delete(request.url),
    };
  }

  async match(url, { cacheName }) {
    const found = this.#caches.get(cacheName)?.get(url);
    return found && new Response(found.body, { headers: found.headers });
  }

  async delete(name) {
    return this.#caches.delete(name);
  }
}

/** A page that hears what it is told. */
export class Client {
  heard = [];

  constructor(id, url) {
    Object.assign(this, { id, url });
  }

  postMessage(message) {
    this.heard.push(message.ruvllm);
  }
}

/** One service worker: the server's sw.js of this moment, in a scope of its own. */
export class Worker {
  #listeners = new Map();
  skipped = false;

  constructor(server, caches, { pages = [], quota = 1e9, storage = true } = {}) {
    const self = {
      location: { href: `${server.base}sw.js` },
      registration: { scope: server.base },
      clients: { matchAll: async () => pages },
      addEventListener: (type, listener) => this.#listeners.set(type, listener),
      skipWaiting: async () => void (this.skipped = true),
    };
    const navigator = storage ? { storage: { estimate: async () => ({ quota, usage: 0 }) } } : {};
    const names = ["self", "caches", "fetch", "navigator", "Client"];
    new Function(...names, server.text("sw.js"))(self, caches, (input) => server.fetch(input), navigator, Client);
  }

  /** Fires an event; resolves when all that it waits for is done. */
  async fire(type, event = {}) {
    const waits = [];
    this.#listeners.get(type)({ ...event, waitUntil: (work) => waits.push(work) });
    for (const work of waits) await work;
  }

  /** Its answer to a request; undefined where it leaves that to the browser. */
  async answer(url, { mode = "cors", method = "GET" } = {}) {
    let answer;
    const waits = [];
    const event = { request: { url, mode, method }, respondWith: (work) => (answer = work), waitUntil: (work) => waits.push(work) };
    this.#listeners.get("fetch")(event);
    const response = await answer;
    await Promise.all(waits);
    return response;
  }
}
