/** Notes found again by meaning and words, the graph around them, and answers with their sources. */
import { h, put } from "../../src/element/dom.js";
import { explain } from "../../src/element/words.js";
import type { App } from "../app.js";
import { web } from "../charts/web.js";
import { count } from "../format.js";
import type { View } from "./later.js";
import { answerCard, hitList, noteCard, statRows } from "./notes.js";
import { NOTES, QUESTION } from "./prompts.js";
import { timeline } from "./timeline.js";
import type { MemoryHit } from "../../src/runtime.js";
import "../styles/workbench.css";

const HITS = 5;
const HOPS = 2;

function field(label: string, input: HTMLInputElement): HTMLElement {
  return h("label", { class: "field", for: input.id }, label, input);
}

export function memoryView(app: App): View {
  const said = h("p", { class: "note", role: "status" });
  const stats = h("dl", { class: "tiles" });
  const answer = h("div", { "aria-live": "polite" });
  const hits = h("div", {});
  const card = h("div", { "aria-live": "polite" });
  const graph = web((id) => void told(() => choose(id)));
  const around = h("div", { class: "around", hidden: true }, h("h3", {}, "Around the hits"), graph.element, card);
  const notes = h("textarea", { id: "notes", dir: "auto", rows: 3, placeholder: "One note a line" });
  const chain = h("input", { type: "checkbox", id: "chain" });
  const question = h("input", { type: "search", id: "recall", dir: "auto", placeholder: `e.g. ${QUESTION}`, autocomplete: "off" });
  const at = h("input", { type: "date", id: "at" });
  const recency = h("input", { type: "range", id: "recency", min: 0, max: 1, step: 0.1, value: 0 });
  const facts = {
    speaker: h("input", { id: "speaker", autocomplete: "off" }),
    observed_at: h("input", { type: "date", id: "observed_at" }),
    valid_from: h("input", { type: "date", id: "valid_from" }),
    valid_to: h("input", { type: "date", id: "valid_to" }),
  };
  let found: MemoryHit[] = [];
  let chosen = 0;

  const told = (work: () => Promise<void>) => work().catch((error: unknown) => put(said, explain(error)));

  async function refresh(): Promise<void> {
    const router = await app.open();
    const [now, latest] = [await router.memoryStats(), await router.memories(12)];
    put(stats, ...statRows(now));
    samples.hidden = latest.length > 0;
    if (!found.length) put(hits, hitList(latest, "The latest notes", (id) => void told(() => choose(id))));
  }

  async function remember(texts: readonly string[]): Promise<void> {
    const lines = texts.map((text) => text.trim()).filter(Boolean);
    if (!lines.length) return void put(said, "Write a note first.");
    const given = Object.fromEntries(Object.entries(facts).flatMap(([name, field]) => (field.value.trim() ? [[name, field.value.trim()]] : [])));
    await (await app.open()).addMemory(lines.map((text) => ({ text, ...given })), { chain: chain.checked });
    notes.value = "";
    put(said, `Remembered ${count(lines.length, "note")}, in this browser.`);
    found = [];
    around.hidden = true;
    put(answer);
    await refresh();
  }

  /** What the question finds now, at the time that is set. */
  async function search(): Promise<void> {
    const query = question.value.trim();
    const time = { ...(at.value ? { at: at.value } : {}), ...(Number(recency.value) ? { recency: Number(recency.value) } : {}) };
    found = query ? await (await app.open()).searchMemory(query, { k: HITS, hops: HOPS, ...time }) : [];
    if (query) put(hits, hitList(found, "Found", (id) => void told(() => choose(id))));
  }

  async function look(): Promise<string> {
    const query = question.value.trim();
    put(said);
    put(answer);
    await search();
    if (!query) around.hidden = true;
    chosen = found[0]?.id ?? 0;
    if (chosen) await choose(chosen);
    else around.hidden = true;
    await refresh();
    return query;
  }

  async function ask(): Promise<void> {
    const query = await look();
    if (!query) return void put(said, "Ask something first.");
    const router = await app.open();
    put(answer, answerCard(await router.query(query), (id, rating) => router.rate(id, rating)));
  }

  /** Its neighbourhood, with that of the other hits. */
  async function choose(id: number): Promise<void> {
    const router = await app.open();
    chosen = id;
    const ids = [...new Set([id, ...found.map((hit) => hit.id)])];
    const drawn = await router.memoryGraph(ids, HOPS);
    around.hidden = false;
    graph.show(drawn, new Map(found.filter((hit) => !hit.hops).map((hit) => [hit.id, hit.score])), id);
    const node = drawn.nodes.find((one) => one.id === id);
    const others = await router.memories();
    const link = (target: number, kind: Parameters<typeof router.linkMemory>[2]) =>
      told(async () => {
        await router.linkMemory(id, target, kind);
        await choose(id);
        await refresh();
      });
    const forget = () =>
      told(async () => {
        await router.forgetMemory([id]);
        found = found.filter((hit) => hit.id !== id);
        around.hidden = true;
        put(said, `Forgot note ${id}.`);
        if (found.length) put(hits, hitList(found, "Found", (other) => void told(() => choose(other))));
        await refresh();
      });
    const reopen = (ended: number) =>
      told(async () => {
        await router.reopenMemory([ended]);
        put(said, `Note ${ended} holds again.`);
        await search();
        await choose(id);
      });
    const history = node ? timeline(await router.memoryTimeline(id), id, reopen) : null;
    put(card, node ? noteCard(node, drawn, others, link, forget, history) : null);
  }

  const samples = h("button", { type: "button", onclick: () => void told(takeSamples) }, `Take ${NOTES.length} sample notes`);
  const takeSamples = async () => {
    chain.checked = true;
    await remember(NOTES);
    question.value = QUESTION;
    await ask();
  };
  const adding = h(
    "form",
    { class: "ask" },
    h("label", { for: "notes", class: "spoken" }, "Notes, one a line"),
    notes,
    h(
      "details",
      { class: "limits" },
      h("summary", {}, "Who said it, and when it holds"),
      h("div", { class: "fields" }, field("Said by", facts.speaker), field("Said on", facts.observed_at), field("Holds from", facts.valid_from), field("Holds until", facts.valid_to)),
    ),
    h("div", { class: "buttons" }, h("button", {}, "Remember"), samples, h("label", { class: "tick", for: "chain" }, chain, "Each follows the one before")),
  );
  adding.addEventListener("submit", (event) => {
    event.preventDefault();
    void told(() => remember(notes.value.split("\n")));
  });
  const asking = h(
    "form",
    { class: "recall", role: "search" },
    h("label", { for: "recall", class: "spoken" }, "Look for, or ask"),
    question,
    h("button", { class: "go" }, "Answer"),
    h("button", { type: "button", onclick: () => void told(async () => void (await look())) }, "Search"),
    h(
      "details",
      { class: "limits" },
      h("summary", {}, "Time"),
      h("div", { class: "fields" }, field("As of this day", at), field("New ones count more", recency)),
    ),
  );
  asking.addEventListener("submit", (event) => {
    event.preventDefault();
    void told(ask);
  });
  app.on("state", () => void told(refresh));
  const panel = h(
    "section",
    { class: "bench-grid memory" },
    h(
      "div",
      { class: "card" },
      h("h2", {}, "Ask and search"),
      h("p", { class: "note" }, "Notes are found by what they mean and by their words, and stay in this browser. An answer is made of their own sentences, with the sources: no LLM writes it."),
      asking,
      said,
      answer,
      hits,
    ),
    h("div", { class: "card" }, h("h2", {}, "Notes"), adding, stats, around),
  );
  return { panel, onShow: () => void told(refresh) };
}
