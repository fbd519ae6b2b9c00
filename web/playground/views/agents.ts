/** Every agent, searchable, and the door for new ones. */
import { h, put, quoted } from "../../src/element/dom.js";
import type { App } from "../app.js";
import { count } from "../format.js";
import { tierWords } from "../../src/element/words.js";
import { dropZone } from "./drop.js";
import { firstSentence } from "./decision.js";
import type { Agent } from "../../src/types.js";

const AT_ONCE = 200; // rows in the page; more than this is found by searching

export function agentsView(app: App): HTMLElement {
  const search = h("input", { type: "search", id: "search", dir: "auto", placeholder: "name, word or example", autocomplete: "off" });
  const kind = h("select", { id: "kind" });
  const amount = h("p", { class: "note", role: "status" });
  const list = h("ul", { class: "agents" });

  const show = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hits = app.agents.filter(
      (agent) => (!kind.value || agent.category === kind.value) && wanted.every((word) => searched(agent).includes(word)),
    );
    const more = hits.length > AT_ONCE ? `; the first ${AT_ONCE} are shown` : "";
    put(amount, app.agents.length ? `${hits.length} of ${count(app.agents.length, "agent")}${more}` : "Still loading…");
    put(list, ...hits.slice(0, AT_ONCE).map(row));
  };
  app.on("agents", (agents) => {
    const chosen = kind.value;
    const kinds = [...new Set(agents.map((agent) => agent.category ?? "custom"))].sort();
    put(kind, h("option", { value: "" }, "All categories"), ...kinds.map((name) => h("option", { value: name }, name)));
    kind.value = kinds.includes(chosen) ? chosen : "";
    show();
  });
  search.addEventListener("input", show);
  kind.addEventListener("change", show);
  show();
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Agents"),
    dropZone(app),
    h(
      "div",
      { class: "filters" },
      h("label", { for: "search" }, "Search", search),
      h("label", { for: "kind" }, "Category", kind),
    ),
    amount,
    list,
  );
}

const texts = new WeakMap<Agent, string>();

function searched(agent: Agent): string {
  let text = texts.get(agent);
  if (text === undefined) {
    const parts = [agent.name, agent.description ?? "", ...(agent.keywords ?? []), ...(agent.examples ?? [])];
    texts.set(agent, (text = parts.join("\n").toLowerCase()));
  }
  return text;
}

function row(agent: Agent): HTMLElement {
  const facts = [
    agent.tier ? `tier ${agent.tier}, ${tierWords(agent.tier)}` : "tier by task",
    agent.model ?? "",
    count(agent.examples?.length ?? 0, "example"),
  ].filter(Boolean);
  const about = agent.description ?? "";
  const details = h(
    "details",
    {},
    h(
      "summary",
      {},
      quoted("span", { class: "name" }, agent.name),
      h("span", { class: "tag" }, agent.category ?? "custom"),
      quoted("span", { class: "about" }, about ? firstSentence(about) : "no description"),
    ),
  );
  // Filled when it is opened: a thousand agents have tens of thousands of examples.
  details.addEventListener("toggle", () => details.childElementCount === 1 && details.append(inside(agent, about, facts)), { once: true });
  return h("li", {}, details);
}

function inside(agent: Agent, about: string, facts: string[]): HTMLElement {
  return h(
    "div",
    { class: "inside" },
    quoted("p", {}, about, 5_000),
    h("p", { class: "note" }, facts.join(" · ")),
    agent.keywords?.length ? h("p", { class: "words" }, ...agent.keywords.map((word) => quoted("span", { class: "tag" }, word))) : null,
    agent.examples?.length ? h("ul", { class: "examples" }, ...agent.examples.map((text) => quoted("li", {}, text))) : null,
  );
}
