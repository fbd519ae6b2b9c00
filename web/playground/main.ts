/** The playground: builds the page, opens the router, and routes. */
import { h, put } from "../src/element/dom.js";
import { explain, sentence } from "../src/element/words.js";
import { App } from "./app.js";
import { badges } from "./badges.js";
import { TASKS } from "./samples.js";
import { readHash, Tabs } from "./tabs.js";
import { taskBox } from "./taskbox.js";
import { agentsView } from "./views/agents.js";
import { bootBoard } from "./views/boot.js";
import { decisionCard } from "./views/decision.js";
import { later } from "./views/later.js";
import { learntView } from "./views/learnt.js";
import { teamView } from "./views/team.js";
import { timingPanel } from "./views/timing.js";
import { offerTour } from "./views/tour.js";
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

const shows = (id: string) => () => tabs.shows(id);
const answer = [decisionCard(app), whyPanel(app), timingPanel(app)];
const decision = h("section", { class: "decide" }, bootBoard(app), ...answer);
const team = teamView(app, shows("team"));
const learnt = learntView(app, shows("learnt"));
const agents = agentsView(app);

// Fetched when they are first shown; a view that is folded at first costs the first route nothing.
const questions = later(async () => (await import("./views/questions.js")).questionsView(app));
const parts = later(async () => (await import("./views/parts.js")).partsView(app, shows("parts")));
const memory = later(async () => (await import("./views/memory.js")).memoryView(app));
const taught = later(async () => (await import("./views/taught.js")).taughtView(app, shows("taught")));
const costs = later(async () => (await import("./views/costs.js")).costsView(app));
const map = later(async () => (await import("./views/map.js")).mapView(app, shows("map")));
const chat = later(async () => (await import("./views/chat.js")).chatView(app));
const bench = later(async () => (await import("./views/bench.js")).benchView(app));
const embed = later(async () => (await import("./views/embed.js")).embedView(app));

const tabs: Tabs = new Tabs([
  {
    id: "route",
    title: "Route",
    views: [
      { id: "decision", title: "Decision", panel: h("div", {}, slot("desk"), decision) },
      { id: "team", title: "Team", ...team },
      { id: "parts", title: "Parts", about: "what the task falls into, and which part needs which", ...parts },
      { id: "questions", title: "Questions", about: "of your own about this task: a choice, yes or no, a score", ...questions },
    ],
  },
  {
    id: "remember",
    title: "Remember",
    lead: ["Write it down. Find it by what it means.", "Notes stay in this browser, know when they hold, and answer questions without any LLM."],
    views: [{ id: "memory", title: "Memory", ...memory }],
  },
  {
    id: "learn",
    title: "Learn",
    lead: ["Every outcome makes the next decision better.", "See what was learnt, take it back, take it along, or share its sums."],
    views: [
      { id: "taught", title: "Lessons", ...taught },
      { id: "learnt", title: "Stored here", ...learnt },
      { id: "costs", title: "Costs", about: "which model to pay for which prompt, and what that saves", ...costs },
    ],
  },
  {
    id: "build",
    title: "Build",
    lead: ["Your agents, your page, your model.", "Everything that runs here runs in your own site, too."],
    views: [
      { id: "agents", title: "Agents", panel: agents },
      { id: "map", title: "Map", about: "agents that mean similar things stand near each other", ...map },
      { id: "embed", title: "Embed", about: "the router as one element of your own page", ...embed },
      { id: "chat", title: "Chat", about: "with a language model in this page, or with what is remembered", ...chat },
      { id: "benchmark", title: "Benchmark", about: "how fast this machine routes, here and now", ...bench },
    ],
  },
]);
put(slot("nav"), tabs.list);
put(slot("tabs"), ...tabs.panels);

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
offerTour(app, slot("tour"));

// Read before the tabs make the address their own.
const wish = readHash().task;
tabs.start();

// A task in the address is routed at once; else a sample shows what an answer looks like.
app.say(wish || TASKS[1] || "");
void app.open().then(() => app.routed ?? app.route(), told);
// What the table alone was unsure of is asked again once the encoder is there, unless the person is about to answer it.
app.on("progress", ({ stage, loaded, total }) => {
  const { decision } = app.routed ?? {};
  if (stage !== "ruvltra" || loaded < total || decision?.encoder !== "static" || decision.action === "use") return;
  if (!answer[0]?.querySelector("form")) void app.route();
});
addEventListener("hashchange", () => {
  const { task } = readHash();
  if (task) void app.route(task);
});
if (matchMedia("(pointer: fine)").matches) input.focus({ preventScroll: true });
