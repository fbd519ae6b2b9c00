/** One question and its answer, while it is being written and after. */
import { h, put, quoted } from "../../src/element/dom.js";
import { percent, shortened, tierWords } from "../../src/element/words.js";
import type { ChatAnswer } from "../../src/llm/types.js";
import type { Decision } from "../../src/types.js";
import { count } from "../format.js";

const ENDS: Record<ChatAnswer["finish_reason"], string> = {
  stop: "",
  length: "cut at its length",
  cancelled: "stopped",
};

export interface Turn {
  element: HTMLElement;
  routed(decision: Decision): void;
  say(text: string): void;
  done(answer: ChatAnswer): void;
  /** The whole answer at once, with a line about it. */
  remembered(text: string, about: string): void;
  failed(why: string): void;
}

export function turn(question: string): Turn {
  const route = h("p", { class: "role" }, "");
  const answer = h("p", { class: "answer", "aria-busy": "true", dir: "auto" });
  const numbers = h("p", { class: "note" }, "Reading…");
  const element = h("article", { class: "turn", "aria-label": shortened(question, 80) }, quoted("p", { class: "asked" }, question, 2_000), route, answer, numbers);
  let ended = false;
  const end = (): void => {
    ended = true;
    answer.removeAttribute("aria-busy");
  };
  return {
    element,
    routed: ({ agent, confidence, tier }) => put(route, `Routed to ${agent}, ${percent(confidence)}; ${tierWords(tier)}`),
    say: (text) => {
      if (ended) return; // pieces come by a port of their own, the last ones maybe after the whole
      answer.append(text);
      put(numbers, "Writing…");
    },
    done: (told) => {
      end();
      put(answer, told.text); // pieces may have left out what a stop text held back
      put(numbers, measured(told));
    },
    remembered: (text, about) => {
      end();
      put(answer, text);
      put(numbers, about);
    },
    failed: (why) => {
      end();
      element.classList.add("bad");
      put(numbers, why);
    },
  };
}

/** How fast it came. */
function measured(answer: ChatAnswer): string {
  const { usage, reused_tokens, first_token_ms, tokens_per_second } = answer;
  const speed = `${tokens_per_second.toFixed(1)} tokens/s`;
  const first = `first token after ${(first_token_ms / 1000).toFixed(2)} s`;
  const known = reused_tokens ? ` (${reused_tokens.toLocaleString("en")} known from before)` : "";
  const read = usage ? `${count(usage.prompt_tokens, "token")} read${known}, ${usage.completion_tokens.toLocaleString("en")} written` : "";
  return [speed, first, read, ENDS[answer.finish_reason]].filter(Boolean).join("; ");
}
