/** Questions to what is remembered, or to a language model in this page: of this site, by address or from the disk. */
import { grows, h, put } from "../../src/element/dom.js";
import { explain, percent } from "../../src/element/words.js";
import { LocalModel } from "../../src/llm/model.js";
import type { ChatMessage, ModelInfo, ModelProgress } from "../../src/llm/types.js";
import { fetchIndex } from "../../src/websites.js";
import type { App } from "../app.js";
import { bytes, count, micros } from "../format.js";
import type { View } from "./later.js";
import { turn } from "./turn.js";
import "../styles/chat.css";

const COMMAND = "make web MODEL=FOLDER";
const CONVERT = "ruvllm models convert MODEL.gguf --out FOLDER";
const USUAL = 50; // Mbit/s, where the browser does not say

export function chatView(app: App): View {
  const state = h("p", { class: "note", role: "status" });
  const meter = h("progress", { max: 1, value: 0, "aria-label": "Loading the model", hidden: true });
  const address = h("input", { type: "url", id: "model", placeholder: new URL("models/my-model/", app.baseURL).href, autocomplete: "off" });
  const folder = h("input", { type: "file", id: "model-folder", class: "spoken", webkitdirectory: true, multiple: true });
  const load = h("button", { class: "go" }, "Load");
  const cancel = h("button", { type: "button", hidden: true, onclick: () => loading?.abort() }, "Cancel");
  const log = h("div", { class: "talk", role: "log", "aria-label": "Conversation" });
  const question = h("textarea", { id: "question", dir: "auto", rows: 2, placeholder: "Ask something" });
  const longest = h("input", { type: "number", id: "longest", min: 1, max: 4096, value: 512, required: true });
  const send = h("button", { class: "go" }, "Send");
  const stop = h("button", { type: "button", hidden: true, onclick: () => answering?.abort() }, "Stop");
  const fresh = h("button", { type: "button", class: "quiet", onclick: () => restart() }, "New conversation");
  const fit = grows(question);
  let model: LocalModel | null = null;
  let messages: ChatMessage[] = [];
  let loading: AbortController | null = null;
  let answering: AbortController | null = null;

  function restart(): void {
    answering?.abort();
    messages = [];
    put(log);
  }

  async function open(source: string | File[]): Promise<void> {
    model?.close();
    model = null;
    restart();
    const control = (loading = new AbortController());
    busy(true);
    put(state, "Opening…");
    try {
      model = await LocalModel.load(source, { baseURL: app.baseURL, onProgress: tell, signal: control.signal });
      put(state, facts(model.info));
      longest.parentElement?.classList.remove("bare");
      question.focus();
    } catch (error) {
      put(state, control.signal.aborted ? "Cancelled. What has come is kept: loading again goes on from there." : explain(error));
    } finally {
      loading = null;
      busy(false);
    }
  }

  function busy(on: boolean): void {
    load.disabled = folder.disabled = on;
    cancel.hidden = meter.hidden = !on;
  }

  function tell({ stage, loaded, total, file }: ModelProgress): void {
    meter.value = total ? loaded / total : 0;
    const doing = stage === "start" ? "Starting the model" : `Fetching ${file}`;
    if (stage !== "ready") put(state, `${doing}: ${bytes(loaded)} of ${bytes(total)}`);
  }

  async function ask(text: string): Promise<void> {
    if (answering) return;
    const asked = model;
    if (!asked) return recall(text);
    const control = (answering = new AbortController());
    const shown = turn(text);
    log.append(shown.element);
    messages.push({ role: "user", content: text });
    send.disabled = !(stop.hidden = false);
    void app.open().then((router) => router.route(text)).then(shown.routed, () => undefined);
    try {
      const answer = await asked.chat(messages, { onToken: shown.say, signal: control.signal, maxTokens: longest.valueAsNumber });
      shown.done(answer);
      messages.push({ role: "assistant", content: answer.text });
    } catch (error) {
      messages.pop(); // the next question need not carry what could not be answered
      shown.failed(explain(error));
    } finally {
      answering = null;
      send.disabled = !(stop.hidden = true);
    }
  }

  /** Without a model, from what is remembered: no LLM writes it. */
  async function recall(text: string): Promise<void> {
    const shown = turn(text);
    log.append(shown.element);
    try {
      const router = await app.open();
      const { text: whole, decision, sources, confidence, latency } = await router.query(text);
      shown.routed(decision);
      const [first = ""] = whole.split(/\n\n(?=\[1\])/);
      const from = sources.length ? `From ${count(sources.length, "note")}, ${percent(confidence ?? decision.confidence)} sure` : "Nothing is remembered yet: write it down under Remember";
      shown.remembered(first, `${from}; ${micros(latency["total"] ?? 0)}.`);
    } catch (error) {
      shown.failed(explain(error));
    }
  }

  /** What this site brings, with how long it takes to come. */
  async function offer(): Promise<void> {
    const { models = [] } = (await fetchIndex(app.baseURL)).llm;
    const speed = (navigator as { connection?: { downlink?: number } }).connection?.downlink || USUAL;
    const rows = models.map(({ name, place, bytes: size }) => {
      const url = new URL(place, app.baseURL).href;
      const wait = `${bytes(size)}, once; some ${Math.max(1, Math.ceil((size * 8) / 1e6 / speed))} s at ${speed} Mbit/s`;
      return h("li", {}, h("b", {}, name), h("span", { class: "note" }, wait), h("button", { type: "button", class: "go", onclick: () => void open(url) }, `Load ${name}`));
    });
    const now = h("li", {}, h("b", {}, "From memory"), h("span", { class: "note" }, "works now, in milliseconds: sentences of your own notes, with no model"), h("button", { type: "button", onclick: () => question.focus() }, "Ask below"));
    const none = models.length ? null : h("li", { class: "note" }, "This site brings no model. Whoever builds it may add one: ", h("code", {}, COMMAND), ".");
    put(picker, now, ...rows, none);
  }

  const picker = h("ul", { class: "picker" });
  const chooser = h(
    "form",
    { class: "chooser" },
    h("label", { for: "model" }, "Address of a converted model"),
    h("div", { class: "row" }, address, load, h("label", { for: "model-folder", class: "pick" }, "Pick its folder"), folder, cancel),
  );
  chooser.addEventListener("submit", (event) => {
    event.preventDefault();
    const url = address.value.trim();
    if (url) void open(url);
    else put(state, "Give the address of a folder first, or pick one from your disk.");
  });
  folder.addEventListener("change", () => {
    const files = [...(folder.files ?? [])];
    folder.value = "";
    if (files.length) void open(files);
  });
  const form = h("form", { class: "asking" }, h("label", { class: "spoken", for: "question" }, "Question"), question, h("div", { class: "row" }, send, stop, fresh, h("label", { class: "note", for: "longest" }, "At most tokens"), longest));
  longest.parentElement?.classList.add("bare"); // only a model counts tokens
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = question.value.trim();
    if (!text || answering) return;
    question.value = "";
    fit();
    void ask(text);
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  const talk = h("div", { class: "card" }, h("h3", {}, "Ask"), log, form);
  const about = h("p", { class: "note" }, "A model runs in this page, on WebGPU where there is one. One of your own is made by ", h("code", {}, CONVERT), ".");
  return { panel: h("div", { class: "cards chat" }, h("div", { class: "card" }, h("h3", {}, "Who answers"), picker, about, chooser, meter, state), talk), onShow: () => void offer().catch((error: unknown) => put(state, explain(error))) };
}

/** What was loaded, in one line. */
function facts(info: ModelInfo): string {
  const where = info.device === "webgpu" ? "on WebGPU" : `in WebAssembly, ${count(info.threads, "thread")}`;
  const kept = info.kept ? (info.persisted ? "kept in this browser" : "kept in this browser until it needs the space") : "not kept: pick it again next time";
  return `${info.name}: ${info.architecture}, ${bytes(info.bytes)}, ${where}; ${count(info.context, "token")} of context; ${kept}.`;
}
