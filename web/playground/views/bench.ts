/** How fast this machine routes, measured here and now. */
import { h, put } from "../../src/element/dom.js";
import { explain } from "../../src/element/words.js";
import { RuvLLM } from "../../src/client.js";
import type { App } from "../app.js";
import type { View } from "./later.js";
import { micros, quantile } from "../format.js";
import { BENCH } from "../samples.js";
import { chart } from "./chart.js";
import type { Router } from "../../src/types.js";

const WARM = 20; // routes before measuring
const SLICE = 25; // routes between two looks at the page

interface Run {
  title: string;
  encoder: string;
  /** Microseconds in the worker, and there and back. */
  inside: number[];
  trip: number[];
}

export function benchView(app: App): View {
  const amount = h("select", { id: "amount" }, ...[200, 500, 1000, 2000].map((n) => h("option", { value: n, selected: n === 500 }, n)));
  const go = h("button", { type: "button", class: "go" }, "Run");
  const note = h("p", { class: "note", role: "status" }, "Each task is new to the router, so nothing comes from its cache.");
  const meter = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Benchmark" });
  const canvas = h("canvas", { class: "chart", role: "img", hidden: true });
  const table = h("div", { class: "scroll" });
  let stop = false;
  let running = false;
  let runs: Run[] = [];

  const draw = () => {
    canvas.hidden = !runs.length;
    if (runs.length) chart(canvas, runs.map((run) => run.trip));
    canvas.setAttribute("aria-label", runs.map((run) => summary(run)).join("; "));
  };
  new ResizeObserver(draw).observe(canvas);
  document.addEventListener("themechange", draw);

  go.addEventListener("click", () => {
    if (running) stop = true;
    else void run();
  });

  async function run(): Promise<void> {
    running = true;
    stop = false;
    runs = [];
    put(go, "Stop");
    put(table);
    meter.hidden = false;
    const total = Number(amount.value);
    let own: Router | null = null;
    try {
      const router = await app.open();
      put(note, "Opening a second router that has the word table alone…");
      // The built-in agents come compiled; only others have to be handed over.
      const same = app.own ? { agents: app.agents } : {};
      own = await RuvLLM.load({ baseURL: app.baseURL, encoder: "static", state: "memory", ...same });
      const entries: [string, Router][] = [["Word table alone", own], ["As it is", router]];
      for (const [title, subject] of entries) {
        const { encoder } = await subject.stats();
        const held: Run = { title, encoder, inside: [], trip: [] };
        runs = [...runs, held];
        await measure(subject, held, total, (done) => {
          meter.value = done / total;
          put(note, `${title}: ${done} of ${total}`);
          return stop;
        });
        put(table, results(runs));
        draw();
        if (stop) break;
      }
      put(note, stop ? "Stopped." : "Measured in this browser, on this machine, with one route at a time.");
    } catch (error) {
      put(note, explain(error));
    } finally {
      await own?.close();
      meter.hidden = true;
      running = false;
      put(go, "Run again");
    }
  }

  const panel = h(
    "section",
    { class: "card" },
    h("div", { class: "filters" }, h("label", { for: "amount" }, "Routes", amount), go),
    note,
    meter,
    table,
    canvas,
  );
  return { panel };
}

async function measure(router: Router, run: Run, total: number, tell: (done: number) => boolean): Promise<void> {
  const salt = Math.random().toString(36).slice(2, 7);
  for (let i = -WARM; i < total; i++) {
    const text = `${BENCH[(i + WARM) % BENCH.length]} (${salt} ${i + WARM})`;
    const began = performance.now();
    const decision = await router.route(text);
    const trip = (performance.now() - began) * 1000;
    if (i < 0) continue;
    run.trip.push(trip);
    run.inside.push(decision.timings_us["total"] ?? Number.NaN);
    if (i % SLICE === SLICE - 1 || i === total - 1) {
      if (tell(i + 1)) return;
      await new Promise((done) => setTimeout(done)); // let the page breathe
    }
  }
}

function results(runs: Run[]): HTMLElement {
  const cell = (values: number[], p: number) => h("td", {}, micros(quantile([...values].sort((a, b) => a - b), p)));
  const heads = ["Router", "Routes", "In the worker: p50", "p95", "Round trip: p50", "p95"];
  return h(
    "table",
    { class: "numbers" },
    h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)))),
    h(
      "tbody",
      {},
      ...runs.map((run, i) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, h("i", { class: `key key-${i}` }), `${run.title} (${run.encoder})`),
          h("td", {}, run.trip.length),
          cell(run.inside, 0.5),
          cell(run.inside, 0.95),
          cell(run.trip, 0.5),
          cell(run.trip, 0.95),
        ),
      ),
    ),
  );
}

function summary({ title, trip }: Run): string {
  const sorted = [...trip].sort((a, b) => a - b);
  return `${title}: half of ${trip.length} routes within ${micros(quantile(sorted, 0.5))}, 95 % within ${micros(quantile(sorted, 0.95))}`;
}
