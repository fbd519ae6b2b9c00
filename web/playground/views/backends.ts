/** The table in which a person states their LLMs, and what they want to spend. */
import { h, put } from "../../src/element/dom.js";
import type { BackendOptions, BackendProfile } from "../../src/runtime.js";

/** A backend as stated, and how often it is right on hard prompts when answers are only practised. */
export interface Stated extends BackendProfile {
  hard: number;
}

export const DEFAULTS: readonly Stated[] = [
  { name: "small", cost: 0.0003, latency: 400, quality: 0.9, hard: 0.4 },
  { name: "large", cost: 0.009, latency: 2_500, quality: 0.95, hard: 0.93 },
];
export const BUDGET = 0.0036;
const KEY = "ruvllm-practice"; // how hard prompts go is no part of a backend's profile

interface Column {
  key: keyof Stated;
  title: string;
  hint: string;
  /** What is shown is so many times what is kept. */
  scale: number;
  step: string;
  max?: number;
}

const COLUMNS: readonly Column[] = [
  { key: "cost", title: "Price", hint: "$ per 1,000 answers", scale: 1_000, step: "any" },
  { key: "latency", title: "Time", hint: "ms per answer", scale: 1, step: "any" },
  { key: "quality", title: "Good answers", hint: "% expected", scale: 100, step: "any", max: 100 },
  { key: "hard", title: "… on hard prompts", hint: "%, for practice", scale: 100, step: "any", max: 100 },
];

export interface BackendForm {
  element: HTMLFormElement;
  read(): { backends: Stated[]; options: BackendOptions };
  fill(backends: readonly BackendProfile[], budget: number | null): void;
}

export function backendForm(apply: () => void): BackendForm {
  const rows = h("tbody", {});
  const most = h("input", { type: "number", id: "budget", min: 0, step: "any", inputmode: "decimal", "aria-describedby": "budget-hint" });
  const fill = (backends: readonly BackendProfile[], budget: number | null) => {
    const hard = remembered();
    put(rows, ...backends.map((one) => row({ ...one, hard: hard[one.name] ?? one.quality })));
    most.value = budget === null ? "" : plain(budget * 1_000);
  };
  const add = () => {
    const name = ["medium", "local", "another"].find((each) => !names(rows).includes(each)) ?? `backend ${rows.children.length + 1}`;
    const fresh = row({ name, cost: 0.002, latency: 900, quality: 0.92, hard: 0.7 });
    rows.append(fresh);
    fresh.querySelector("input")?.select();
  };
  const element = h(
    "form",
    { class: "backends" },
    h(
      "table",
      { class: "sheet" },
      h("caption", { class: "spoken" }, "Your LLM backends"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Name"), ...COLUMNS.map((one) => h("th", { scope: "col" }, one.title, h("small", {}, one.hint))), h("td", {}))),
      rows,
    ),
    h(
      "div",
      { class: "under" },
      h("label", { class: "field", for: "budget" }, "Budget", most, h("small", { id: "budget-hint" }, "$ per 1,000 prompts; empty takes the best quality per dollar and second")),
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: add }, "Add a backend"), h("button", { class: "go" }, "Use these")),
    ),
  );
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  const read = () => {
    const backends = [...rows.children].map((each) => stated(each as HTMLTableRowElement));
    remember(backends);
    return { backends, options: { budget: most.value.trim() === "" ? null : Number(most.value) / 1_000 } };
  };
  return { element, read, fill };
}

function row(one: Stated): HTMLTableRowElement {
  const out = h("tr", {});
  out.append(
    h("th", { scope: "row" }, h("input", { type: "text", dir: "auto", value: one.name, required: true, maxlength: 60, "aria-label": "Name", "data-key": "name" })),
    ...COLUMNS.map(({ key, title, hint, scale, step, max }) =>
      h("td", { "data-title": title }, h("input", { type: "number", value: plain(Number(one[key]) * scale), required: true, min: 0, max, step, inputmode: "decimal", "aria-label": `${title}, ${hint}`, "data-key": key })),
    ),
    h("td", {}, h("button", { type: "button", class: "quiet", "aria-label": "Remove this backend", title: "Remove", onclick: () => out.remove() }, "×")),
  );
  return out;
}

function stated(row: HTMLTableRowElement): Stated {
  const field = (key: string) => row.querySelector<HTMLInputElement>(`[data-key="${key}"]`)?.value.trim() ?? "";
  const numbers = Object.fromEntries(COLUMNS.map(({ key, scale }) => [key, Number(field(key)) / scale]));
  return { name: field("name"), ...(numbers as Omit<Stated, "name">) };
}

function names(rows: HTMLElement): string[] {
  return [...rows.querySelectorAll<HTMLInputElement>('[data-key="name"]')].map((input) => input.value.trim());
}

/** 0.1 + 0.2 as 0.3. */
function plain(value: number): string {
  return String(Number(value.toPrecision(10)));
}

function remembered(): Record<string, number> {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEY) ?? "");
    if (kept && typeof kept === "object") return kept as Record<string, number>;
  } catch {
    // none, or storage is closed to this page
  }
  return Object.fromEntries(DEFAULTS.map(({ name, hard }) => [name, hard]));
}

function remember(backends: readonly Stated[]): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(backends.map(({ name, hard }) => [name, hard]))));
  } catch {
    // the defaults serve as well
  }
}
