/** One note, a list of them, an answer made of them, and the numbers of their store. */
import { h, put, quoted } from "../../src/element/dom.js";
import { explain, shortened } from "../../src/element/words.js";
import { said } from "../charts/web.js";
import { bytes, cosine, count, micros } from "../format.js";
import { about, whyFound } from "./timeline.js";
import type { Answer, Applied, EdgeKind, Memory, MemoryGraph, MemoryHit, MemoryStats } from "../../src/runtime.js";

const EDGES: readonly EdgeKind[] = ["SameTopic", "Follows", "Cites", "Derived", "Contains", "AgentStep"];
/** What an edge says: the source does this to the target. */
const VERBS: Record<EdgeKind, string> = {
  Cites: "cites",
  Follows: "follows",
  SameTopic: "has the topic of",
  AgentStep: "is a step of",
  Derived: "is derived from",
  Contains: "contains",
};
const INDEXES: Record<string, string> = {
  flat: "exact, every note",
  binary: "sign codes, then exact",
  ivf: "inverted lists",
};
const FORMATS: Record<string, string> = { f32: "float32" };

export function statRows(stats: MemoryStats): HTMLElement[] {
  const total = Object.values(stats.collections).reduce((sum, each) => sum + each, 0);
  const kind = stats.indexes["default"]?.kind ?? "flat";
  const rows: [string, string][] = [
    ["Notes", total.toLocaleString("en")],
    ["Edges", stats.edges.toLocaleString("en")],
    ["Searched by", INDEXES[kind] ?? kind],
    ["In memory", tiers(stats)],
    ["Kept as", `${FORMATS[stats.format] ?? stats.format} × ${stats.dim}, ${bytes(stats.vector_bytes)}`],
  ];
  return rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

/** Vectors of the notes in memory, by how precisely they are there. */
function tiers(stats: MemoryStats): string {
  const here = Object.entries(stats.tiers["default"] ?? {}).filter(([, held]) => held.count);
  return here.map(([tier, held]) => `${held.count.toLocaleString("en")} ${FORMATS[tier] ?? tier}, ${bytes(held.bytes)}`).join("; ") || "nothing";
}

export function hitList(notes: readonly (Memory | MemoryHit)[], title: string, pick: (id: number) => void): HTMLElement {
  if (!notes.length) return h("p", { class: "empty" }, title === "The latest notes" ? "Nothing is remembered yet." : "Nothing like it is remembered.");
  return h(
    "div",
    {},
    h("h3", {}, title),
    h("ol", { class: "hits" }, ...notes.map((note) => h("li", {}, hit(note, pick)))),
  );
}

function hit(note: Memory | MemoryHit, pick: (id: number) => void): HTMLElement {
  const button = h("button", { type: "button", class: "hitrow", onclick: () => pick(note.id) }, quoted("span", { class: "text" }, note.text));
  if ("score" in note) button.append(whyFound(note), h("span", { class: "number", title: "score" }, cosine(note.score)));
  else {
    const facts = about(note);
    if (facts.length) button.append(h("span", { class: "whys" }, ...facts));
  }
  return button;
}

export function noteCard(
  note: MemoryGraph["nodes"][number],
  graph: MemoryGraph,
  others: readonly Memory[],
  link: (target: number, kind: EdgeKind) => unknown,
  forget: () => unknown,
  history: HTMLElement | null,
): HTMLElement {
  const text = (id: number) => shortened(graph.nodes.find((one) => one.id === id)?.text ?? `note ${id}`, 80);
  const edges = graph.edges.filter((edge) => edge.source === note.id || edge.target === note.id);
  const kind = h("select", { "aria-label": "Kind of edge" }, ...EDGES.map((each) => h("option", { value: each }, VERBS[each])));
  const target = h("select", { "aria-label": "Note to link to" }, ...others.filter(({ id }) => id !== note.id).map((one) => quoted("option", { value: one.id }, one.text, 60)));
  const form = h("form", { class: "linker" }, h("span", {}, "This note"), kind, target, h("button", {}, "Link"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void link(Number(target.value), kind.value as EdgeKind);
  });
  const used = note.accesses ? `found ${count(note.accesses, "time")}; ` : "";
  return h(
    "article",
    { class: "notecard", "aria-label": `Note ${note.id}` },
    h("p", { class: "role" }, `Note ${note.id} · ${said(note.kind)}`),
    quoted("p", { class: "asks" }, note.text, 5_000),
    h("p", { class: "note" }, `${used}quality ${note.quality.toFixed(2)}; ${note.archived ? "archived, out of the index" : "in the index"}`),
    history,
    edges.length
      ? h("ul", { class: "edges" }, ...edges.map(({ source, target: to, kind: means }) => h("li", { dir: "auto" }, source === note.id ? "This " : `“${text(source)}” `, h("b", {}, VERBS[means]), source === note.id ? ` “${text(to)}”` : " this")))
      : null,
    target.options.length ? form : null,
    h("button", { type: "button", class: "quiet", onclick: () => void forget() }, "Forget this note"),
  );
}

export function answerCard(answer: Answer, rate: (id: string, rating: number) => Promise<Applied>): HTMLElement {
  const [text = "", ...legend] = answer.text.split(/\n\n(?=\[1\])/);
  const numbers = new Map([...legend.join("").matchAll(/\[(\d+)\] memory (\d+)/g)].map(([, place, id]) => [Number(id), place]));
  const cited = answer.sources.filter(({ id }) => numbers.has(id));
  const thanks = h("p", { class: "note", role: "status" });
  const judge = async (rating: number) => {
    try {
      const done = await rate(answer.request_id, rating);
      put(thanks, `Learnt: ${count(done.memories, "note")} and ${count(done.edges, "edge")} now count ${rating > 3 ? "more" : "less"}${done.trajectory ? ", and patterns will know" : ""}.`);
    } catch (error) {
      put(thanks, explain(error));
    }
  };
  return h(
    "article",
    { class: "answer", "aria-label": "Answer" },
    quoted("p", { class: "said-answer" }, text, 5_000),
    cited.length ? h("ol", { class: "sources" }, ...cited.map((source) => h("li", { dir: "auto" }, h("b", {}, `[${numbers.get(source.id)}]`), ` ${shortened(source.text)}`))) : null,
    h("p", { class: "note" }, `For ${answer.agent}, by the ${answer.routing.backend} backend, in ${micros(answer.latency["total"] ?? 0)}; nothing was paid.`),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "yes", onclick: () => void judge(5) }, "Helpful"), h("button", { type: "button", class: "no", onclick: () => void judge(1) }, "Not helpful")),
    thanks,
  );
}
