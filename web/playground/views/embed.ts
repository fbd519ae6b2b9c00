/** The element, live, with the lines that put it into another page. */
import { h, put } from "../../src/element/dom.js";
import { shortened } from "../../src/element/words.js";
import "../../src/element.js";
import type { App } from "../app.js";
import type { View } from "./later.js";
import { copy } from "./copy.js";

const SNIPPET = `<script type="module" src="/ruvllm/element.js"></script>

<ruvllm-router live
  agents="/my-agents.json"
  placeholder="What should be done?">
</ruvllm-router>`;

const LISTEN = `document.querySelector("ruvllm-router")
  .addEventListener("route", (event) => {
    const { agent, confidence, action } = event.detail;
    if (action === "use") start(agent);
  });`;

const OFFLINE = `import { keepOffline, RuvLLM } from "/ruvllm/ruvllm.js";
const llm = await RuvLLM.load({ offline: true });
// from the second visit on, it routes without a network
keepOffline({ onState: ({ kind }) => show(kind) });`;

export function embedView(app: App): View {
  const element = h("ruvllm-router", { live: true, label: "Try it here", placeholder: "Describe a task" });
  const heard = h("p", { class: "note", role: "status", dir: "auto" }, "Its events appear here.");
  void app.open().then((router) => (element.router = router), () => undefined); // a failed load is on the page already
  element.addEventListener("route", (event) => {
    const { agent, confidence } = (event as CustomEvent<{ agent: string; confidence: number }>).detail;
    put(heard, `route: { agent: "${agent}", confidence: ${confidence} … }`);
  });
  element.addEventListener("feedback", (event) => {
    const { text, agent } = (event as CustomEvent<{ text: string; agent: string }>).detail;
    put(heard, `feedback: { text: "${shortened(text, 80)}", agent: "${agent}" }`);
    app.taught.unshift({ text, agent });
    app.emit("taught", { text, agent });
  });
  const panel = h(
    "section",
    { class: "card" },
    h("p", { class: "note" }, "The same router as one element, for any page: in the page itself, or asking an edge server."),
    h("div", { class: "pair" }, h("div", {}, element, heard), h("div", {}, code(SNIPPET), code(LISTEN), code(OFFLINE))),
  );
  return { panel };
}

function code(text: string): HTMLElement {
  const button = h("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", () => {
    void copy(button, text, "Select it by hand");
  });
  return h("div", { class: "code" }, h("pre", { tabindex: 0 }, h("code", {}, text)), button);
}
