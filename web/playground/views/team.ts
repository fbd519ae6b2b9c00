/** Compound tasks: who takes which part, in working order. */
import { h, put, quoted } from "../../src/element/dom.js";
import { Latest } from "../../src/element/latest.js";
import { explain, percent, tierWords } from "../../src/element/words.js";
import type { App } from "../app.js";
import { count } from "../format.js";
import { TEAM_TASKS } from "../samples.js";
import type { Team, TeamMember } from "../../src/types.js";

const QUIET = 400; // ms after a decision, which nobody waits for
const ABOUT = "who takes which part of a compound task";

export function teamView(app: App, visible: () => boolean): { about: HTMLElement; panel: HTMLElement; onShow: () => void } {
  const body = h("div", { class: "team-body", "aria-live": "polite" });
  const samples = h(
    "ul",
    { class: "chips", "aria-label": "Sample compound tasks" },
    ...TEAM_TASKS.map((task) => h("li", {}, h("button", { type: "button", onclick: () => void app.route(task) }, task))),
  );
  const about = h("span", { class: "note" }, ABOUT);
  let shown = "";
  let quiet: ReturnType<typeof setTimeout> | undefined;
  const latest = new Latest();
  const panel = h(
    "section",
    { class: "card team" },
    samples,
    body,
  );

  async function show(): Promise<void> {
    const task = app.task.trim();
    if (task === shown) return;
    if (!task) {
      latest.drop();
      shown = "";
      put(about, ABOUT);
      return put(body, h("p", { class: "empty" }, "Type a task above, or take a sample."));
    }
    try {
      const team = await latest.run(async () => (await app.open()).routeComplex(task));
      if (!team) return;
      shown = task;
      put(about, team.members.length > 1 ? `this task wants ${count(team.members.length, "agent")}, in order` : ABOUT);
      put(body, ...content(task, team));
    } catch (error) {
      put(body, h("p", { class: "empty" }, explain(error)));
    }
  }
  app.on("routed", () => {
    shown = "";
    clearTimeout(quiet);
    quiet = setTimeout(() => void show(), visible() ? 0 : QUIET);
  });
  return { about, panel, onShow: () => void show() };
}

function content(task: string, team: Team): Node[] {
  const { members, tier } = team;
  return [
    quoted("p", { class: "quote" }, task),
    h("ol", { class: "line" }, ...members.map((member, i) => stop(member, i))),
    h(
      "p",
      { class: "note" },
      members.length === 1
        ? "One agent can take all of this."
        : `${count(members.length, "agent")}; the hardest part wants tier ${tier}, ${tierWords(tier)}.`,
    ),
  ];
}

function stop({ agent, role, task, confidence }: TeamMember, at: number): HTMLElement {
  const fill = h("i");
  fill.style.width = `${confidence * 100}%`;
  return h(
    "li",
    {},
    h("span", { class: "station", "aria-hidden": "true" }, at + 1),
    h(
      "div",
      {},
      h("p", { class: "role" }, role),
      quoted("h3", {}, agent),
      ...task.split("; ").map((part) => quoted("p", { class: "part" }, part)),
    ),
    h("div", { class: "sure" }, h("span", { class: "bar", "aria-hidden": "true" }, fill), h("span", { class: "number" }, percent(confidence))),
  );
}
