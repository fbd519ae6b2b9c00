/** Whether the page works with the network off: a badge that says how it stands, and a card for what needs a person. */
import { h, put } from "../src/element/dom.js";
import { keepOffline, type Offline, type OfflineState } from "../src/offline.js";
import type { App } from "./app.js";
import { bytes, count } from "./format.js";

const LOOK = 500; // ms

export function network(app: App): HTMLElement {
  const out = h("div", { class: "badge network", id: "network", role: "status" });
  const notice = document.getElementById("notice") ?? out;
  let offline: Offline | null = null;
  const show = () => {
    const state = offline?.state ?? { kind: "starting" };
    out.dataset["state"] = navigator.onLine ? state.kind : "offline";
    out.classList.toggle("off", !navigator.onLine || state.kind === "failed");
    put(out, navigator.onLine ? words(state) : "Offline, still routing");
    out.title = "message" in state ? `${state.message}: ${state.fix}` : "";
    put(notice, navigator.onLine && offline ? card(offline) : null);
  };
  addEventListener("online", show);
  addEventListener("offline", show);
  app.on("ready", () => {
    if (offline) return;
    void settled(app).then(() => {
      offline = keepOffline({ baseURL: app.baseURL, onState: show });
      show(); // it may know at once that it cannot be
    });
  });
  show();
  return out;
}

/** What this visit loads must have come, or the fill would load it a second time; a page that is kept loads nothing. */
async function settled(app: App): Promise<void> {
  while (!navigator.serviceWorker?.controller) {
    const stats = await app.router?.stats().catch(() => undefined);
    if (stats?.["ruvltra"] !== "loading") return;
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
}

function words(state: OfflineState): string {
  switch (state.kind) {
    case "starting":
      return "Online";
    case "filling":
      return `Filling ${bytes(state.loaded)} of ${bytes(state.total)}`;
    case "ready":
    case "stale":
      return "Offline ready";
    case "update":
      return "Update ready";
    case "failed":
      return state.reason === "space" ? "Not kept: no space" : "Online only";
  }
}

function card(offline: Offline): HTMLElement | null {
  const { state } = offline;
  if (state.kind === "update") {
    const reload = h("button", { type: "button", class: "go", onclick: () => offline.update() }, "Reload");
    const others = state.tabs ? `Close this page in ${count(state.tabs, "other tab")} first, then reload.` : "Reload to use it.";
    return h("div", { class: "card trouble" }, h("p", {}, `A new version is ready. ${others}`), reload);
  }
  if (state.kind !== "failed" && state.kind !== "stale") return null;
  // What a person here cannot mend, or the next visit tries again.
  if (state.reason === "unsupported" || (state.kind === "stale" && state.reason !== "space")) return null;
  const what = state.kind === "failed" ? "This page is not kept for use without a network" : "A newer version could not be kept";
  return h("div", { class: "card trouble" }, h("p", {}, `${what}: ${state.message}. To mend it, ${state.fix}.`));
}
