/** The plots of what choices came to, and a row for each backend. */
import { h, put } from "../../src/element/dom.js";
import { plot, type Series } from "../charts/plot.js";
import { dollars, seconds, share } from "./money.js";
import type { Practised } from "./practice.js";
import type { BackendStats } from "../../src/runtime.js";

const RUNNING = 30; // answers that a running mean goes back

export interface CostBoard {
  element: HTMLElement;
  show(stats: BackendStats, practised: readonly Practised[]): void;
}

export function costBoard(): CostBoard {
  const empty = "No answer yet.";
  const x = (value: number) => `answer ${Math.round(value)}`;
  const spend = plot({ title: "Spent", x, y: dollars, empty });
  const saved = plot({ title: "Saved against always the dearest", x, y: share, range: [0, 1], empty });
  const quality = plot({ title: `Good answers, of the last ${RUNNING}`, x, y: share, range: [0, 1], empty });
  const sent = plot({ title: `Sent to the dearest, of the last ${RUNNING}`, x: (value) => `prompt ${Math.round(value)}`, y: share, range: [0, 1], empty: "Practise, and see easy and hard prompts part." });
  const headline = h("dl", { class: "tiles" });
  const rows = h("tbody", {});
  const table = h(
    "table",
    { class: "sheet learnt-backends" },
    h("caption", { class: "spoken" }, "Each backend as it proved to be"),
    h("thead", {}, h("tr", {}, ...["Backend", "Answers", "Share", "Price", "Time", "Good"].map((title) => h("th", { scope: "col" }, title)))),
    rows,
  );
  const plots = h("div", { class: "plots" }, spend.element, saved.element, quality.element, sent.element);
  const region = h("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Backends, learnt" }, table);
  const none = h("p", { class: "empty" }, "Say how some answers were, or practise, and the lines appear.");
  const anew = h("p", { class: "empty" }, "What was learnt at an earlier visit cannot be read. It is set aside in the state file, and learnt anew.");
  const show = (stats: BackendStats, practised: readonly Practised[]) => {
    none.hidden = stats.answers > 0;
    anew.hidden = !stats.lost;
    plots.hidden = region.hidden = headline.hidden = !none.hidden;
    put(headline, ...tiles(stats));
    spend.show(spent(stats));
    const { curve } = stats;
    const part = ({ spent: paid, always_dearest: dearest }: (typeof curve)[number]) => (dearest ? 1 - paid / dearest : 0);
    saved.show(curve.length ? [{ name: "saved", colour: 2, points: curve.map((point) => [point.answers, part(point)]) }] : []);
    quality.show(curve.length ? [{ name: "good", colour: 0, points: mean(curve.map(({ answers, quality: good }) => [answers, good])) }] : []);
    sent.show(parting(stats, practised));
    put(rows, ...stats.backends.map(backendRow));
  };
  const element = h(
    "div",
    { class: "card board-card" },
    h("h3", {}, "What it comes to"),
    anew,
    headline,
    none,
    plots,
    region,
  );
  return { element, show };
}

function tiles({ answers, spent: paid, savings, quality }: BackendStats): HTMLElement[] {
  const values: [string, string][] = [
    ["Answers", answers.toLocaleString("en")],
    ["Spent", dollars(paid)],
    ["Saved", answers ? share(savings) : "–"],
    ["Good", quality === null ? "–" : share(quality)],
  ];
  return values.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

function spent({ curve }: BackendStats): Series[] {
  if (!curve.length) return [];
  return [
    { name: "always the dearest", colour: 3, dashed: true, points: curve.map((point) => [point.answers, point.always_dearest]) },
    { name: "as chosen", colour: 0, points: curve.map((point) => [point.answers, point.spent]) },
  ];
}

/** Running means: a line of noughts and ones says nothing. */
function mean(points: readonly [number, number][]): [number, number][] {
  let from = 0;
  let sum = 0;
  let weight = 0;
  // A point stands for all answers since the one before it.
  const sizes = points.map(([x], i) => x - (points[i - 1]?.[0] ?? 0));
  return points.map(([x, y], i) => {
    sum += y * (sizes[i] ?? 0);
    weight += sizes[i] ?? 0;
    while (from < i && weight - (sizes[from] ?? 0) >= RUNNING) {
      sum -= (points[from]?.[1] ?? 0) * (sizes[from] ?? 0);
      weight -= sizes[from] ?? 0;
      from++;
    }
    return [x, sum / weight];
  });
}

function parting({ backends }: BackendStats, practised: readonly Practised[]): Series[] {
  if (!practised.length) return [];
  const dearest = backends.reduce((best, one) => (one.cost > best.cost ? one : best)).name;
  const line = (hard: boolean): [number, number][] => {
    const places = practised.flatMap((one, i) => (one.hard === hard ? [i] : []));
    return places.map((place, i) => {
      const last = places.slice(Math.max(0, i + 1 - RUNNING), i + 1);
      return [place + 1, last.filter((each) => practised[each]?.backend === dearest).length / last.length];
    });
  };
  const rows: Series[] = [
    { name: "hard prompts", colour: 1, points: line(true) },
    { name: "easy prompts", colour: 0, points: line(false) },
  ];
  return rows.filter((row) => row.points.length);
}

function backendRow({ name, calls, share: part, cost, latency, quality }: BackendStats["backends"][number]): HTMLElement {
  const fill = h("i");
  fill.style.width = `${part * 100}%`;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, name),
    h("td", {}, calls.toLocaleString("en")),
    h("td", {}, h("span", { class: "bar", "aria-hidden": "true" }, fill), share(part)),
    h("td", {}, dollars(cost)),
    h("td", {}, seconds(latency)),
    h("td", {}, quality === null ? "–" : share(quality)),
  );
}
