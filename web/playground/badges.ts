/** The right end of the header: how far loading has come, network, colours. */
import { h, icon, put } from "../src/element/dom.js";
import { stageWords } from "../src/element/words.js";
import type { App } from "./app.js";
import { bytes } from "./format.js";
import { network } from "./network.js";
import type { LoadProgress } from "../src/types.js";

const LOOK = 3_000; // ms
const THEMES = ["auto", "light", "dark"] as const;
const ICONS = {
  auto: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Zm0 0v18M12 8h7.5M12 12h9M12 16h7.5",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8Zm0-6v2m0 16v2M2 12h2m16 0h2M5 5l1.4 1.4m11.2 11.2L19 19M5 19l1.4-1.4M17.6 6.4 19 5",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z",
};

export function badges(app: App): HTMLElement[] {
  return [loading(app), network(app), theme()];
}

function loading(app: App): HTMLElement {
  const text = h("span", {}, "Starting…");
  const meter = h("progress", { max: 1, value: 0, "aria-label": "Loading" });
  const out = h("div", { class: "badge loading", id: "loading" }, text, meter);
  let ready = false;
  const say = (words: string, share?: number) => {
    put(text, words);
    meter.hidden = share === undefined;
    if (share !== undefined) meter.value = share;
    out.classList.toggle("done", share === undefined && ready);
  };
  const show = ({ stage, loaded, total }: LoadProgress) => {
    const amount = total > 0 ? ` ${bytes(loaded)} of ${bytes(total)}` : "";
    const share = total > 0 ? loaded / total : 0;
    if (stage !== "ruvltra") {
      if (!ready) say(`Loading ${stageWords(stage)}${amount}`, share);
    } else if (loaded >= total && ready) say("Ready, with RuvLTRA");
    else say(`${ready ? "Ready" : "Loading"}; RuvLTRA${amount}`, share);
  };
  app.on("progress", show);
  let looking: ReturnType<typeof setInterval> | undefined;
  const stop = () => clearInterval(looking);
  // A failure has no progress to tell, nor has RuvLTRA when it reads new agents: the router is asked.
  const look = async () => {
    const stats = await app.router?.stats();
    const { ruvltra, fitting, read } = (stats ?? {}) as Record<string, unknown>;
    if (fitting) return say("Ready; learns from the agents' examples");
    if (ruvltra === "loading") return;
    if (ruvltra === "warming") return say(`Ready; RuvLTRA reads the agents, ${Math.round(Number(read) * 100)}\u202f%`, Number(read));
    stop();
    if (ruvltra === "ready") say("Ready, with RuvLTRA");
    if (ruvltra === "failed") say("Ready, without RuvLTRA");
  };
  const watch = () => {
    stop();
    looking = setInterval(() => void look().catch(stop), LOOK);
  };
  app.on("ready", () => {
    ready = true;
    const ruvltra = app.progress.get("ruvltra");
    if (ruvltra) show(ruvltra);
    else say("Ready");
  });
  app.on("agents", () => {
    watch();
    void look().catch(stop);
  });
  app.on("problem", (problem) => {
    if (problem && !ready) say("Not loaded");
  });
  return out;
}

function theme(): HTMLElement {
  let at = Math.max(0, THEMES.findIndex((name) => name === stored()));
  const button = h("button", { type: "button", class: "badge theme", onclick: () => set(at + 1) });
  const set = (next: number) => {
    at = next % THEMES.length;
    const name = THEMES[at] ?? "auto";
    document.documentElement.dataset["theme"] = name;
    put(button, icon(ICONS[name]));
    button.setAttribute("aria-label", `Colours: ${name}. Change.`);
    button.title = `Colours: ${name}`;
    try {
      localStorage.setItem("ruvllm-theme", name);
    } catch {
      // not kept, but changed
    }
    document.dispatchEvent(new CustomEvent("themechange"));
  };
  set(at);
  return button;
}

function stored(): string | null {
  try {
    return localStorage.getItem("ruvllm-theme");
  } catch {
    return null; // storage is closed to this page
  }
}
