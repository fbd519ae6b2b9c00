/** The playground: builds the page, opens the router, and routes. */
import { h, put } from "../src/element/dom.js";
import { explain, sentence } from "../src/element/words.js";
import { App } from "./app.js";
import { badges } from "./badges.js";
import { TASKS } from "./samples.js";
import { readHash, Tabs } from "./tabs.js";
import { taskBox } from "./taskbox.js";
import { agentsView } from "./views/agents.js";
import { benchView } from "./views/bench.js";
import { bootBoard } from "./views/boot.js";
import { decisionCard } from "./views/decision.js";
import { embedView } from "./views/embed.js";
import { later } from "./views/later.js";
import { learntView } from "./views/learnt.js";
import { mapView } from "./views/map.js";
import { teamView } from "./views/team.js";
import { timingPanel } from "./views/timing.js";
import { whyPanel } from "./views/why.js";

/** A failed load is on the page already. */
const told = (): void => undefined;
const app = new App(new URL("./", document.baseURI));
const slot = (id: string): HTMLElement => document.getElementById(id) ?? document.body;

// A server that has the guide says so with the page; a static host has none.
const [visit] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
slot("guide").hidden = !visit?.serverTiming?.some(({ name }) => name === "guide");
put(slot("badges"), ...badges(app));
const { box, input, reach } = taskBox(app);
put(slot("taskbox"), box);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  reach();
});

const shows = (id: string) => () => tabs.current === id;
const answer = [decisionCard(app), whyPanel(app), timingPanel(app)];
const questions = later(async () => (await import("./views/questions.js")).questionsView(app));
const asks = h("details", { class: "card", ontoggle: () => asks.open && questions.onShow() }, h("summary", {}, "Ask questions of your own about this task"), questions.panel);
const decision = h("section", { class: "decide" }, bootBoard(app), ...answer, asks);
const team = teamView(app, shows("team"));
const map = mapView(app, shows("map"));
const learnt = learntView(app, shows("learnt"));

// Fetched when they are first shown; a view that is also hidden at first costs the first route nothing.
const parts = later(async () => (await import("./views/parts.js")).partsView(app, shows("parts")));
const memory = later(async () => (await import("./views/memory.js")).memoryView(app));
const costs = later(async () => (await import("./views/costs.js")).costsView(app));
const chat = later(async () => (await import("./views/chat.js")).chatView(app));
const taught = later(async () => (await import("./views/taught.js")).taughtView(app, shows("learnt")));
const learning = {
  panel: h("div", { class: "cards" }, learnt.panel, taught.panel),
  onShow: () => {
    learnt.onShow();
    taught.onShow();
  },
};

const tabs: Tabs = new Tabs([
  { id: "decision", title: "Decision", panel: decision },
  { id: "team", title: "Team", ...team },
  { id: "parts", title: "Parts", ...parts },
  { id: "memory", title: "Memory", own: true, ...memory },
  { id: "costs", title: "Costs", own: true, ...costs },
  { id: "chat", title: "Chat", own: true, ...chat },
  { id: "learnt", title: "Learnt", own: true, ...learning },
  { id: "agents", title: "Agents", own: true, panel: agentsView(app) },
  { id: "map", title: "Map", ...map },
  { id: "benchmark", title: "Benchmark", own: true, panel: benchView(app) },
  { id: "embed", title: "Embed", own: true, panel: embedView(app) },
]);
put(slot("nav"), tabs.list);
put(slot("tabs"), ...tabs.panels);
tabs.onOwn((own) => (slot("desk").hidden = own));

const reveal = (shown: boolean) => answer.forEach((card) => (card.hidden = !shown));
reveal(false);
app.on("routed", (routed) => {
  reveal(routed !== null);
  if (routed) put(slot("spoken"), sentence(routed.decision));
});
app.on("problem", (problem) => {
  const again = h("button", { type: "button", class: "go", onclick: () => void app.open().then(() => app.route(), told) }, "Try again");
  put(slot("problem"), problem && h("div", { class: "card trouble" }, h("p", {}, explain(problem)), app.router ? null : again));
});
app.on("ready", () => put(slot("spoken"), "Ready to route."));

// Read before the tabs make the address their own.
const wish = readHash().task;
tabs.start();

// A task in the address is routed at once; else a sample shows what an answer looks like.
app.say(wish || TASKS[1] || "");
void app.open().then(() => app.routed ?? app.route(), told);
addEventListener("hashchange", () => {
  const { task } = readHash();
  if (task) void app.route(task);
});
if (matchMedia("(pointer: fine)").matches) input.focus({ preventScroll: true });
