/** The nodes of the element and what they show; it knows nothing of routers. */
import { feedbackRow } from "./feedback.js";
import type { FeedbackOptions } from "./feedback.js";
import { grows, h, put } from "./dom.js";
import { alternatives, summary } from "./result.js";
import { explain, stageWords } from "./words.js";
import type { LoadProgress } from "../types.js";

/** What `RuvllmRouterElement` puts into its shadow root. */
export class View {
  readonly #label = h("label", { for: "task", part: "label" });
  readonly input = h("textarea", { id: "task", part: "input", dir: "auto", rows: 1, autocomplete: "off", "aria-describedby": "state" });
  readonly #button = h("button", { class: "main", part: "button" }, "Route");
  readonly form = h(
    "form",
    { part: "form" },
    this.#label,
    h("div", { class: "row", part: "row" }, this.input, this.#button),
  );
  readonly #state = h("p", { id: "state", class: "hint", part: "status", role: "status", hidden: true });
  readonly #meter = h("progress", { part: "progress", max: 1, value: 0, "aria-label": "Loading", hidden: true });
  readonly #summary = h("div", { part: "summary", "aria-live": "polite", "aria-atomic": "true" });
  readonly #more = h("div");
  readonly #result = h(
    "div",
    { class: "result", part: "result", role: "group", "aria-label": "Decision" },
    this.#summary,
    this.#more,
  );
  readonly box = h("div", { class: "box", part: "box" }, this.form, this.#meter, this.#state, this.#result);

  constructor() {
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    grows(this.input);
    this.clear();
  }

  words(label: string, placeholder: string): void {
    put(this.#label, label);
    this.input.placeholder = placeholder;
  }

  show(options: FeedbackOptions): void {
    put(this.#summary, summary(options.decision));
    put(this.#more, alternatives(options.decision), feedbackRow(options));
  }

  fail(error: unknown): void {
    this.clear();
    put(this.#summary, h("p", { class: "problem", part: "problem" }, explain(error)));
  }

  clear(): void {
    put(this.#summary);
    put(this.#more);
    this.told("");
    this.busy(false);
  }

  busy(busy: boolean): void {
    for (const part of [this.#result, this.#summary]) part.setAttribute("aria-busy", String(busy));
  }

  progress({ stage, loaded, total }: LoadProgress): void {
    if (stage === "ready" || stage === "ruvltra") return this.told("");
    const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
    if (total > 0) this.told(`Loading ${stageWords(stage)}: ${mb(loaded)} of ${mb(total)} MB`, loaded / total);
    else this.told(`Loading ${stageWords(stage)}…`);
  }

  told(text: string, share?: number): void {
    put(this.#state, text);
    this.#state.hidden = !text;
    this.#meter.hidden = share === undefined;
    if (share !== undefined) this.#meter.value = share;
  }
}
