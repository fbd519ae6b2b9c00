/** Where the task is typed, and samples for those who have none. */
import { grows, h } from "../src/element/dom.js";
import type { App } from "./app.js";
import { TASKS } from "./samples.js";

const DEBOUNCE = 120; // ms of quiet before routing while typing

export function taskBox(app: App): { box: HTMLElement; input: HTMLTextAreaElement; reach: () => void } {
  const input = h("textarea", {
    id: "task",
    dir: "auto",
    rows: 1,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "e.g. fix the memory leak in the cache module",
    "aria-keyshortcuts": "/",
  });
  const live = h("input", { type: "checkbox", id: "live", checked: true });
  const form = h(
    "form",
    { class: "taskform" },
    h("label", { class: "spoken", for: "task" }, "Task"),
    input,
    h("button", { class: "go" }, "Route"),
  );
  const chips = h(
    "ul",
    { class: "chips", "aria-label": "Sample tasks" },
    ...TASKS.map((task) => h("li", {}, h("button", { type: "button", onclick: () => void app.route(task) }, task))),
  );
  const fit = grows(input);
  let timer: ReturnType<typeof setTimeout> | undefined;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    void app.route(input.value);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") input.blur();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  input.addEventListener("input", () => {
    app.say(input.value);
    clearTimeout(timer);
    if (live.checked) timer = setTimeout(() => void app.route(input.value), DEBOUNCE);
  });
  app.on("task", (task) => {
    if (input.value === task) return;
    input.value = task;
    fit();
  });
  app.on("busy", (on) => {
    form.classList.toggle("working", on);
  });
  const reach = () => {
    const aside = !input.offsetParent; // by a view that has fields of its own
    if (aside) location.hash = "#route";
    const enter = () => {
      input.focus();
      input.select();
    };
    if (aside) addEventListener("hashchange", enter, { once: true });
    else enter();
  };
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
    event.preventDefault();
    reach();
  });
  const switcher = h("label", { class: "switch", for: "live" }, live, "Route while typing");
  return { box: h("div", { class: "taskbox" }, form, chips, switcher), input, reach };
}

/** Whether the key goes into a field, also one in a shadow tree. */
function typing(event: Event): boolean {
  const target = event.composedPath()[0];
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
