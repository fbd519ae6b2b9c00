/** Typed questions about the task: a choice, yes or no, a score; what is right is learnt at once. */
import { h, put, quoted } from "../../src/element/dom.js";
import { Latest } from "../../src/element/latest.js";
import { explain, percent } from "../../src/element/words.js";
import type { App } from "../app.js";
import type { Answers, Question, QuestionAnswer, RightAnswer } from "../../src/types.js";
import type { View } from "./later.js";
import "../styles/workbench.css";

/** A possible answer, with its probability and what `feedbackDecision` takes for it. */
interface Possible {
  label: string;
  share: number;
  right: RightAnswer;
}

export function questionsView(app: App): View {
  const latest = new Latest();
  const choice = field("A choice", "Whose task is it?", "backend: servers, databases, queues\nfrontend: pages, forms, styles\noperations: deploys, alerts, machines");
  const yes = field("Yes or no", "Is somebody blocked until this is done?");
  const score = field("A score, lowest first", "How much work is it?", "minutes\nhours\ndays\nweeks");
  const answers = h("div", { class: "answers", "aria-live": "polite" });
  const ask = h("button", { type: "submit", class: "go" }, "Answer");
  const form = h("form", { class: "questions" }, choice.box, yes.box, score.box, ask);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void answer();
  });

  function questions(): Record<string, Question> {
    const out: Record<string, Question> = {};
    const options = lines(choice.criteria).map((line) => line.split(/:(.*)/s, 2).map((part) => part.trim()) as [string, string?]);
    if (options.length) {
      const criteria = Object.fromEntries(options.map(([name, about]) => [name, about || name]));
      out["choice"] = { type: "choice", instructions: choice.instructions.value, criteria };
    }
    if (yes.instructions.value.trim()) out["yes"] = { type: "noul", instructions: yes.instructions.value };
    const levels = lines(score.criteria);
    if (levels.length) out["score"] = { type: "score", instructions: score.instructions.value, criteria: levels };
    return out;
  }

  async function answer(note = ""): Promise<void> {
    const state = app.task.trim();
    if (!state) return put(answers, h("p", { class: "empty" }, "Type a task above: the questions are about it."));
    const asked = questions();
    try {
      const found = await latest.run(async () => (await app.open()).decide(state, asked));
      if (found) put(answers, note && h("p", { class: "good", role: "status" }, note), ...Object.entries(found.answers).map(([name, one]) => shown(found, name, one, asked)));
    } catch (error) {
      put(answers, h("p", { class: "empty bad" }, explain(error)));
    }
  }

  function shown(found: Answers, name: string, one: QuestionAnswer, asked: Record<string, Question>): HTMLElement {
    const rows = possible(one).map(({ label, share, right }) => {
      const teach = async (): Promise<void> => {
        try {
          await (await app.open()).feedbackDecision(found.id, { [name]: right });
          await answer(`Learnt: ${label}.`);
        } catch (error) {
          put(answers, h("p", { class: "empty bad" }, explain(error)));
        }
      };
      const bar = h("i", {});
      bar.style.width = `${100 * share}%`;
      const button = h("button", { type: "button", "aria-label": `${label} is right`, onclick: () => void teach() }, "Right");
      return h("li", {}, quoted("span", { class: "name" }, label), h("span", { class: "bar" }, bar), h("span", { class: "number" }, percent(share)), button);
    });
    const about = asked[name]?.instructions;
    return h("section", {}, quoted("h3", {}, typeof about === "string" && about.trim() ? about : name), h("ul", { class: "possible" }, ...rows));
  }

  return {
    panel: h("section", { class: "card" }, h("p", { class: "note" }, "One line for each option (name: what it is for) or level. Say which answer was right, and the next ones know."), form, answers),
    onShow: () => answers.childElementCount || void answer(),
  };
}

function field(title: string, instructions: string, criteria?: string) {
  const question = h("input", { type: "text", dir: "auto", value: instructions, "aria-label": `${title}: question` });
  const area = h("textarea", { dir: "auto", rows: 4, spellcheck: "false", "aria-label": `${title}: answers`, hidden: criteria === undefined }, criteria);
  return { instructions: question, criteria: area, box: h("fieldset", {}, h("legend", {}, title), question, area) };
}

function lines(area: HTMLTextAreaElement): string[] {
  return area.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function possible(one: QuestionAnswer): Possible[] {
  if (one.type === "noul") return [{ label: "yes", share: one.noul, right: true }, { label: "no", share: 1 - one.noul, right: false }];
  const rows = Object.entries(one.probabilities);
  if (one.type === "choice") return rows.map(([name, share]) => ({ label: name, share, right: name }));
  return rows.map(([level, share]) => ({ label: String(one.legend[level] ?? level), share, right: Number(level) }));
}
