/** The page takes what is dropped anywhere on it: agents, or a file of what was learnt. */
import { h, put } from "../../src/element/dom.js";
import { explain } from "../../src/element/words.js";
import type { App } from "../app.js";
import { fromDrop, fromInput } from "../files.js";
import type { Gathered } from "../files.js";
import { count } from "../format.js";
import type { Added, Problem } from "../../src/types.js";

const STATE = /\.(sqlite3?|db|ruvllm)$/i;

export function dropZone(app: App): HTMLElement {
  const report = h("div", { class: "report", role: "status" });
  const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "spoken", tabindex: -1, "aria-label": "Folder of agent files" });
  const single = h("input", { type: "file", accept: ".md,.mdc,.json,.jsonc,.toml", multiple: true, class: "spoken", tabindex: -1, "aria-label": "Agent files" });
  const reset = h("button", { type: "button", id: "reset-agents", hidden: true, onclick: () => void forget() });
  app.on("agents", () => {
    reset.hidden = app.own === 0;
    put(reset, `Remove my ${count(app.own, "agent")}`);
  });
  const zone = h(
    "div",
    { class: "drop" },
    h("p", {}, h("b", {}, "Bring your own agents"), h("span", {}, "Drop a folder of agents or skills anywhere on this page, or a .md, .json or .toml file.")),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onclick: () => folder.click() }, "Choose a folder"),
      h("button", { type: "button", onclick: () => single.click() }, "Choose files"),
      reset,
    ),
    folder,
    single,
  );
  for (const input of [folder, single]) {
    input.addEventListener("change", () => {
      if (input.files?.length) void take(fromInput(input.files));
      input.value = "";
    });
  }
  const files = (event: DragEvent) => event.dataTransfer?.types.includes("Files") === true; // not a marked word
  const over = (on: boolean) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
  addEventListener("drop", (event) => {
    over(false);
    if (!files(event) || !event.dataTransfer) return;
    event.preventDefault();
    const [first] = event.dataTransfer.files;
    if (first && STATE.test(first.name)) {
      location.hash = "#learnt";
      return app.emit("file", first);
    }
    location.hash = "#agents";
    void take(fromDrop(event.dataTransfer));
  });

  async function take(gathering: Promise<Gathered>): Promise<void> {
    put(report, h("p", { class: "note" }, "Reading and learning these agents; many of them take some seconds…"));
    try {
      const { files, problems } = await gathering;
      const before = new Set(app.agents.map((agent) => agent.name));
      const added: Added = files.length ? await app.addFiles(files) : { agents: before.size, problems: [] };
      const fresh = app.agents.filter((agent) => !before.has(agent.name)).length;
      put(report, ...told(fresh, files.length, added), ...listed([...problems, ...added.problems]));
    } catch (error) {
      put(report, h("p", { class: "bad" }, explain(error)));
    }
  }

  async function forget(): Promise<void> {
    reset.disabled = true;
    try {
      const { agents, problems } = await app.resetAgents();
      put(report, h("p", { class: "good" }, `Back to the ${agents.toLocaleString("en")} built-in agents.`), ...listed(problems));
    } catch (error) {
      put(report, h("p", { class: "bad" }, explain(error)));
    } finally {
      reset.disabled = false;
    }
  }
  return h("div", {}, zone, report);
}

function told(fresh: number, files: number, { agents, kept }: Added): Node[] {
  if (!files) return [];
  const what = `${count(fresh, "new agent")} from ${count(files, "file")}`;
  const where = kept ? " They will be here at the next visit, too." : "";
  return [h("p", { class: "good" }, `${what}; ${agents.toLocaleString("en")} to route among.${where}`)];
}

function listed(problems: Problem[]): Node[] {
  if (!problems.length) return [];
  const rows = problems.map(({ field, message, fix }) =>
    h("li", { dir: "auto" }, h("code", {}, field), ` ${plain(field, message)}.`, fix ? h("span", { class: "fix" }, ` ${upper(fix)}.`) : null),
  );
  return [h("p", { class: "bad" }, `${count(problems.length, "problem")}:`), h("ul", { class: "problems" }, ...rows)];
}

/** The core's message names the file again; once is enough. */
function plain(field: string, message: string): string {
  const bare = message.startsWith(`${field}:`) ? message.slice(field.length + 1).trim() : message;
  return bare.replace(/\.$/, "");
}

function upper(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/\.$/, "");
}
