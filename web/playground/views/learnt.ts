/** What was learnt: see it, take it along, bring it back. */
import { h, put } from "../../src/element/dom.js";
import { encoderWords, explain } from "../../src/element/words.js";
import type { App } from "../app.js";
import { bytes, count } from "../format.js";
import type { Pulled, Pushed } from "../../src/runtime.js";
import type { Job, Stats } from "../../src/types.js";

const LABELS: Record<string, string> = {
  agents: "Agents",
  encoder: "Routes by",
  ruvltra: "RuvLTRA",
  feedback: "Learnt",
  cache_hits: "Answers remembered",
  cache_misses: "Answers worked out",
  store: "Kept in",
  version: "Version",
  build: "Build",
  ruvltra_error: "RuvLTRA's trouble",
};

const STORES: Record<string, string> = {
  opfs: "this browser, a private file",
  indexeddb: "this browser, IndexedDB",
  memory: "this visit only",
};

/** Background work that a person would ask about; writing goes on all the time. */
const JOBS: Record<string, string> = {
  review: "Review of feedback",
  patterns: "Patterns of rated answers",
  sizes: "Choice of model sizes",
  retrieval: "Ranking of memories",
  renewal: "Memories read with a later encoder",
  expiry: "Memories whose time is over",
  concepts: "Old memories to concepts",
  graph: "What memories hear from their neighbours",
  tiers: "Vectors as precise as they are used",
};

export function learntView(app: App, visible: () => boolean): { panel: HTMLElement; onShow: () => void } {
  const stats = h("dl", { class: "facts wide" });
  const jobs = h("tbody", {});
  const note = h("p", { class: "note", role: "status" });
  const file = h("input", { type: "file", accept: ".sqlite,.sqlite3,.db,.ruvllm", class: "spoken", tabindex: -1, "aria-label": "Exported file" });
  const sure = h("div", { class: "sure-row", hidden: true });

  async function refresh(): Promise<void> {
    if (!app.router || !visible()) return;
    try {
      const told = await app.router.stats();
      put(stats, ...rows(told));
      put(jobs, ...(told.jobs ?? []).filter(({ name }) => name in JOBS).map(jobRow));
    } catch (error) {
      put(note, explain(error));
    }
  }

  async function save(): Promise<void> {
    try {
      const data = await (await app.open()).export();
      const url = URL.createObjectURL(new Blob([data as Uint8Array<ArrayBuffer>], { type: "application/vnd.sqlite3" }));
      h("a", { href: url, download: "ruvllm-learnt.sqlite" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      put(note, `Saved ${bytes(data.length)}. The same file opens in Python and on an edge server.`);
    } catch (error) {
      put(note, explain(error));
    }
  }

  async function load(chosen: File): Promise<void> {
    put(note, `Reading ${chosen.name}…`);
    try {
      await app.restore(new Uint8Array(await chosen.arrayBuffer()));
      put(note, `${chosen.name} is now what this page has learnt.`);
    } catch (error) {
      put(note, explain(error));
    }
    await refresh();
  }

  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (chosen) offer(chosen);
  });
  app.on("file", (dropped) => offer(dropped));

  function offer(chosen: File): void {
    const close = () => (sure.hidden = true);
    const yes = h("button", { type: "button", class: "go", onclick: () => (close(), void load(chosen)) }, "Replace");
    const no = h("button", { type: "button", onclick: close }, "Keep what is here");
    put(sure, h("p", {}, `Replace everything learnt here by ${chosen.name} (${bytes(chosen.size)})?`), yes, no);
    sure.hidden = false;
    yes.focus();
  }
  const url = h("input", { type: "url", placeholder: "https://team.example:3000", "aria-label": "Address of a ruvllm server", autocomplete: "url" });
  const key = h("input", { type: "password", placeholder: "API key, if it wants one", "aria-label": "API key", autocomplete: "off" });
  const moved = h("p", { class: "note", role: "status" });

  async function together(what: "push" | "pull" | "undo"): Promise<void> {
    put(moved, what === "push" ? "Sending…" : what === "pull" ? "Fetching…" : "");
    try {
      const { learn } = await app.open();
      if (what === "push") put(moved, sentWords(await learn.push(url.value.trim(), { key: key.value })));
      else if (what === "pull") put(moved, receivedWords(await learn.pull(url.value.trim(), { key: key.value })));
      else put(moved, (await learn.undo()) ? "This page goes by what was learnt here alone again." : "Nothing had been fetched.");
    } catch (error) {
      put(moved, explain(error));
    }
    await refresh();
  }

  const act = (what: "push" | "pull" | "undo", words: string) =>
    h("button", { type: "button", onclick: () => void together(what) }, words);
  for (const type of ["ready", "agents", "routed", "taught", "state"] as const) app.on(type, () => void refresh());
  const panel = h(
    "section",
    { class: "card" },
    h("h2", {}, "Stored here"),
    h("p", { class: "note" }, "Every thumb is kept in this browser at once and changes the next decision, and so are agents of your own. Nothing is sent anywhere unless you send it below."),
    isSecureContext ? null : h("p", { class: "note" }, "Over plain http this browser keeps what was learnt, but no copy of the page: each visit needs the network. Over https it opens without one."),
    stats,
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", class: "go", onclick: () => void save() }, "Export to a file"),
      h("button", { type: "button", onclick: () => file.click() }, "Import a file"),
      file,
    ),
    sure,
    note,
    h("h3", {}, "Together with others"),
    h("p", { class: "note" }, "A ruvllm server gathers what many have learnt. Sums over five texts or more of one agent or model are sent, never a text."),
    h("div", { class: "buttons with" }, url, key, act("push", "Send"), act("pull", "Fetch"), act("undo", "Without the fetched")),
    moved,
    h("h3", {}, "In the background"),
    h("p", { class: "note" }, "What is done when nobody has asked anything for a moment."),
    h(
      "div",
      { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Background work" },
      h(
        "table",
        { class: "sheet jobs" },
        h("thead", {}, h("tr", {}, ...["Job", "Last run", "Outcome", "Next due"].map((title) => h("th", { scope: "col" }, title)))),
        jobs,
      ),
    ),
  );
  return { panel, onShow: () => void refresh() };
}

function sentWords({ updates, texts, outcomes, bytes: size, waiting, refused }: Pushed): string {
  const rest = waiting ? ` ${count(waiting, "text")} wait for others of their agent.` : "";
  const no = refused ? ` ${count(refused, "group")} refused.` : "";
  return (updates ? `Sent ${count(texts, "text")} and ${count(outcomes, "outcome")} of models as sums, ${bytes(size)}.` : "Nothing new to send.") + rest + no;
}

function receivedWords({ routes, agents, texts, changed, models }: Pulled): string {
  if (!routes && !models.length) return "Nobody has sent anything there yet.";
  const speaks = [...agents, ...models].length ? ` It speaks of ${[...agents, ...models].join(", ")}.` : " It speaks of no agent here.";
  return `${changed ? "Fetched" : "Nothing new:"} ${count(routes, "agent")} of ${count(texts, "text")}.${speaks}`;
}

function jobRow({ name, last, failure, due, next }: Job): HTMLElement {
  const time = (seconds: number) => new Date(seconds * 1000).toLocaleString("en", { dateStyle: "short", timeStyle: "short" });
  const outcome = failure?.error || last?.outcome || "–";
  // A time that is over says only that it may run: there is nothing to do.
  const cells = [last ? time(last.at) : "never", outcome, due ? "now" : next * 1000 > Date.now() ? time(next) : "when needed"];
  return h("tr", {}, h("th", { scope: "row" }, JOBS[name] ?? name), ...cells.map((cell) => h("td", {}, cell)));
}

/** Those a person can read; what is empty or has no name of its own here is left out. */
function rows(stats: Stats): HTMLElement[] {
  return Object.entries(LABELS).flatMap(([name, label]) => {
    const value = stats[name];
    if ((typeof value !== "string" && typeof value !== "number") || value === "") return [];
    return [h("div", {}, h("dt", {}, label), h("dd", {}, said(name, value)))];
  });
}

function said(name: string, value: string | number): string {
  if (name === "feedback" && typeof value === "number") return count(value, "lesson");
  if (name === "encoder") return encoderWords(String(value));
  if (name === "build") return String(value).slice(0, 8);
  if (name === "store") return STORES[String(value)] ?? String(value);
  return typeof value === "number" ? value.toLocaleString("en") : value;
}
