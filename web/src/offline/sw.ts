/**
 * The service worker of a built folder, at `sw.js` in it. Each build has its own: the browser installs a new one
 * beside the old, which fills a cache of its own, whole or not at all, and takes over when no tab uses the old one.
 * So a page gets all its files from one version, with or without a network.
 */
import { FillError, Version } from "./fill.js";
import type { FillNews, FromServiceWorker, ToServiceWorker } from "./messages.js";

declare const self: ServiceWorkerGlobalScope;

const BUILD = "%RUVLLM_BUILD%"; // build/web.py puts the build's name here
const TELL_EVERY = 150; // ms
const base = new URL("./", self.location.href).href;
const version = new Version(base, BUILD);

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(version.dropOthers()));

self.addEventListener("message", (event) => {
  const { ruvllm } = (event.data ?? {}) as Partial<ToServiceWorker>;
  if (ruvllm === "check") event.waitUntil(fill().catch(() => undefined)); // told already
  if (ruvllm === "take over") event.waitUntil(takeOver(event.source));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const page = request.mode === "navigate";
  if (request.method !== "GET" || (url.search && !page)) return;
  if (request.cache === "no-store") return; // a language model's weights: their own page keeps them, and they are large
  url.search = url.hash = "";
  if (!url.href.startsWith(base)) return;
  event.respondWith(answer(event, url.href.slice(base.length) || "index.html"));
});

/** This version's file; what it does not have is the server's to answer. */
async function answer(event: FetchEvent, file: string): Promise<Response> {
  const kept = await version.find(file);
  if (kept) return kept;
  const response = await fetch(event.request);
  if (response.ok) event.waitUntil(version.keepPassing(file, response.clone()).catch(() => undefined)); // no space: it was on demand
  return response;
}

/** What a broken connection has left is taken up by the next try; what found no space must give it back. */
async function install(): Promise<void> {
  try {
    await fill();
  } catch (error) {
    if (error instanceof FillError && error.reason === "space") await version.drop();
    throw error;
  }
}

let filling: Promise<void> | undefined;

/** One fill at a time, its course told to every page. */
function fill(): Promise<void> {
  filling ??= filled().finally(() => (filling = undefined));
  return filling;
}

async function filled(): Promise<void> {
  let last = 0;
  try {
    await version.fill((loaded, total) => {
      const now = Date.now();
      if (now - last < TELL_EVERY) return;
      last = now;
      void tell({ kind: "filling", loaded, total });
    });
  } catch (error) {
    const told = error instanceof FillError ? error : new FillError("damaged", String(error).slice(0, 300), "reload");
    await tell({ kind: "failed", reason: told.reason, message: told.message, fix: told.fix });
    throw error;
  }
  await tell({ kind: "kept" });
}

async function tell(news: FillNews): Promise<void> {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  for (const page of pages) page.postMessage({ ruvllm: news } satisfies FromServiceWorker);
}

/** Only for a page that is alone: another tab would go on with files of the version before. */
async function takeOver(asker: ExtendableMessageEvent["source"]): Promise<void> {
  if (!(asker instanceof Client)) return;
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const tabs = pages.filter((page) => page.id !== asker.id && page.url.startsWith(self.registration.scope)).length;
  if (tabs) asker.postMessage({ ruvllm: { kind: "busy", tabs } } satisfies FromServiceWorker);
  else await self.skipWaiting();
}
