/** Why a note was found, from when until when it holds, and what superseded what. */
import { h, quoted } from "../../src/element/dom.js";
import { count } from "../format.js";
import type { Memory, MemoryHit, MemoryWhy } from "../../src/runtime.js";

/** What a score is the sum of, in the order of the bar. */
const PARTS: [keyof MemoryWhy, string, string][] = [
  ["cosine", "meaning", "how near its vector is to the question's"],
  ["words", "words", "the question's words in it, the rarer the more"],
  ["speaker", "speaker", "the question names who said it"],
  ["neighbour", "neighbour", "what was said just before and after it"],
  ["time", "time", "of the day that is asked for, or new; less where it holds no longer"],
];

/** The parts of a score side by side, and as words. */
export function whyFound(note: MemoryHit): HTMLElement {
  const parts = note.why ? PARTS.filter(([name]) => Math.abs(note.why?.[name] ?? 0) >= 0.005) : [];
  const bar = h("span", { class: "bar sum", "aria-hidden": "true" });
  for (const [name] of parts) {
    const value = note.why?.[name] ?? 0;
    if (value <= 0) continue;
    const fill = h("i", { class: name });
    fill.style.flexBasis = `${(value / Math.max(1, note.score)) * 100}%`;
    bar.append(fill);
  }
  const chips = parts.map(([name, label, title]) => h("span", { class: (note.why?.[name] ?? 0) < 0 ? "against" : name, title }, `${label} ${signed(note.why?.[name] ?? 0)}`));
  if (note.hops) chips.push(h("span", { class: "graph", title: "an edge of the graph leads to it" }, `graph, ${count(note.hops, "edge")} away`));
  return h("span", { class: "why-found" }, bar, h("span", { class: "whys" }, ...chips, ...about(note)));
}

/** Who said it, when, until when it holds, and how often it was said. */
export function about(note: Memory): HTMLElement[] {
  const speaker = note.metadata["speaker"];
  const agent = note.metadata["agent_id"];
  const facts: [string, string][] = [];
  if (typeof speaker === "string") facts.push([`said by ${speaker}`, ""]);
  if (typeof agent === "string") facts.push([`of ${agent}`, "its own knowledge"]);
  if (note.until !== null) facts.push([`${day(note.since)} to ${day(note.until)}`, note.closed?.reason ?? ""]);
  else if (["observed_at", "valid_from"].some((key) => key in note.metadata)) facts.push([`since ${day(note.since)}`, ""]);
  if (note.said > 1) facts.push([`said ${note.said} times`, ""]);
  return facts.map(([text, title]) => h("span", { class: note.until !== null ? "ended" : "plain", title: title || null }, text));
}

/** All that a note superseded and that superseded it, the oldest first. */
export function timeline(notes: readonly Memory[], here: number, reopen: (id: number) => unknown): HTMLElement | null {
  if (notes.length < 2 && !notes.some((note) => note.closed)) return null;
  const rows = notes.map((note) =>
    h(
      "li",
      { class: note.closed ? "ended" : "", "aria-current": note.id === here },
      h("time", {}, note.until === null ? `${day(note.since)}, still holds` : `${day(note.since)} to ${day(note.until)}`),
      quoted("p", {}, note.text),
      note.closed ? h("p", { class: "note" }, `Ended: ${note.closed.reason} (${Math.round(note.closed.confidence * 100)} % sure)`) : null,
      note.closed ? h("button", { type: "button", class: "quiet", onclick: () => void reopen(note.id) }, "Undo: it still holds") : null,
    ),
  );
  return h("section", { class: "timeline" }, h("h4", {}, "Over time"), h("ol", {}, ...rows));
}

function signed(value: number): string {
  return `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)}`;
}

function day(seconds: number): string {
  return new Date(seconds * 1_000).toISOString().slice(0, 10);
}
