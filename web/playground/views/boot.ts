/** What is still to arrive, as a board; gone once there is a decision to show. */
import { h, put } from "../../src/element/dom.js";
import type { App } from "../app.js";
import { bytes } from "../format.js";
import type { LoadProgress, Stage } from "../../src/types.js";

const ROWS: [Stage, string, string][] = [
  ["python", "Python", "the language, as WebAssembly"],
  ["packages", "numpy and ruvllm", "the same code as on a server"],
  ["static", "Word table", "answers in microseconds"],
  ["ruvltra", "RuvLTRA", "asked when the table is unsure; comes while you work"],
];

export function bootBoard(app: App): HTMLElement {
  const rows = new Map<Stage, { row: HTMLElement; state: HTMLElement; fill: HTMLElement }>();
  const list = h("ol", { class: "board" });
  for (const [stage, title, detail] of ROWS) {
    const state = h("span", { class: "number" }, "waiting");
    const fill = h("i");
    const row = h(
      "li",
      {},
      h("span", { class: "stop" }),
      h("span", { class: "name" }, title, h("small", {}, detail)),
      h("span", { class: "bar", "aria-hidden": "true" }, fill),
      state,
    );
    rows.set(stage, { row, state, fill });
    list.append(row);
  }
  const title = h("h2", {}, "Getting ready");
  const lead = h("p", { class: "note" }, "A first visit loads these once. After that they are kept, and the network may go away.");
  const out = h("article", { class: "card boot" }, title, lead, list);
  const show = ({ stage, loaded, total }: LoadProgress) => {
    const held = rows.get(stage);
    if (!held) return;
    const share = total > 0 ? loaded / total : 0;
    held.fill.style.width = `${share * 100}%`;
    held.row.classList.toggle("here", total > 0 && loaded >= total);
    put(held.state, total > 0 && loaded >= total ? bytes(total) : `${bytes(loaded)} of ${bytes(total)}`);
  };
  app.on("progress", show);
  app.on("ready", () => {
    out.classList.add("arrived");
    put(title, "Ready");
    put(lead, "Type a task above, or take one of the samples.");
  });
  app.on("problem", (problem) => {
    if (!app.router && problem) put(lead, "It could not be loaded.");
  });
  app.on("routed", (routed) => (out.hidden = routed !== null));
  return out;
}
