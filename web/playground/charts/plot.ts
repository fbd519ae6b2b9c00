/** A line chart in SVG: as wide as its place, read off by pointer or arrow keys, and said in words. */
import { h, put, svg } from "../../src/element/dom.js";

export interface Series {
  name: string;
  /** 0 to 3: the colour of --series-N. */
  colour: number;
  dashed?: boolean;
  points: readonly (readonly [x: number, y: number])[];
}

export interface PlotOptions {
  title: string;
  x: (value: number) => string;
  y: (value: number) => string;
  /** Fixes the axis; by default it goes from 0 to the largest value. */
  range?: readonly [number, number];
  /** Said while there is nothing to draw. */
  empty: string;
}

export interface Plot {
  element: HTMLElement;
  show(series: readonly Series[]): void;
}

interface Frame {
  left: number;
  right: number;
  top: number;
  bottom: number;
  x: (value: number) => number;
  y: (value: number) => number;
}

const HEIGHT = 190; // px
const STEPS = [1, 2, 2.5, 5, 10];

export function plot(options: PlotOptions): Plot {
  const readout = h("p", { class: "readout", "aria-live": "off" }); // said only to who asks by key
  const legend = h("ul", { class: "keys" });
  const stage = h("div", { class: "stage" });
  const element = h("figure", { class: "plot" }, h("figcaption", {}, h("h3", {}, options.title), legend), stage, readout);
  let series: readonly Series[] = [];
  let at = -1;
  const xs = () => [...new Set(series.flatMap((one) => one.points.map(([x]) => x)))].sort((a, b) => a - b);
  const draw = () => {
    const width = stage.clientWidth;
    if (!width) return;
    const drawable = xs().length > 0;
    legend.hidden = readout.hidden = !drawable;
    if (!drawable) return put(stage, h("p", { class: "empty" }, options.empty));
    const kept = document.activeElement !== null && stage.contains(document.activeElement);
    const image = picture(series, options, width, xs()[at]);
    image.addEventListener("pointermove", (event) => move(nearest(event.offsetX)));
    image.addEventListener("pointerleave", () => move(-1));
    image.addEventListener("keydown", (event) => key(event));
    put(stage, image);
    if (kept) image.focus({ preventScroll: true });
    put(legend, ...series.map((one) => h("li", {}, h("i", { class: `series-${one.colour}${one.dashed ? " dashed" : ""}` }), one.name)));
    put(readout, words(series, options, xs()[at]));
  };
  const move = (to: number) => {
    if (to === at) return;
    at = to;
    draw();
  };
  const nearest = (px: number) => {
    const all = xs();
    const frame = framed(series, options, stage.clientWidth);
    return all.reduce((best, x, i) => (Math.abs(frame.x(x) - px) < Math.abs(frame.x(all[best] ?? 0) - px) ? i : best), 0);
  };
  const key = (event: KeyboardEvent) => {
    const last = xs().length - 1;
    const from = at < 0 ? last : at;
    const to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    readout.setAttribute("aria-live", "polite");
    move(Math.min(last, Math.max(0, to)));
  };
  new ResizeObserver(draw).observe(stage);
  const show = (next: readonly Series[]) => {
    series = next;
    at = -1;
    readout.setAttribute("aria-live", "off");
    draw();
  };
  return { element, show };
}

function words(series: readonly Series[], { x, y }: PlotOptions, at?: number): string {
  const said = series.flatMap(({ name, points }) => {
    const point = at === undefined ? points.at(-1) : points.findLast(([px]) => px <= at);
    return point ? [`${name} ${y(point[1])}`] : [];
  });
  const last = series[0]?.points.at(-1)?.[0];
  return `${x(at ?? last ?? 0)}: ${said.join(", ")}`;
}

function framed(series: readonly Series[], { range }: PlotOptions, width: number): Frame & { ticks: number[] } {
  const points = series.flatMap((one) => one.points);
  const [low, high] = range ?? [0, Math.max(...points.map(([, y]) => y), 1e-9)];
  const ticks = range ? [low, (low + high) / 2, high] : spaced(high);
  const top = Math.max(high, ticks.at(-1) ?? high);
  const first = Math.min(...points.map(([x]) => x));
  const last = Math.max(...points.map(([x]) => x), first + 1);
  const frame = { left: 58, right: width - 10, top: 12, bottom: HEIGHT - 26 };
  const x = (value: number) => frame.left + ((value - first) / (last - first)) * (frame.right - frame.left);
  const y = (value: number) => frame.bottom - ((value - low) / (top - low)) * (frame.bottom - frame.top);
  return { ...frame, x, y, ticks };
}

/** 0 and two to four round numbers up to about `high`. */
function spaced(high: number): number[] {
  const rough = high / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = (STEPS.find((each) => each * power >= rough) ?? 10) * power;
  return Array.from({ length: Math.ceil(high / step - 1e-9) + 1 }, (_, i) => i * step);
}

function picture(series: readonly Series[], options: PlotOptions, width: number, at?: number): SVGSVGElement {
  const frame = framed(series, options, width);
  const label = `${options.title}. ${words(series, options)}. Arrow keys read it off.`;
  const out = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label, tabindex: 0 });
  for (const tick of frame.ticks) {
    const y = frame.y(tick);
    out.append(svg("line", { class: "grid", x1: frame.left, x2: frame.right, y1: y, y2: y }));
    out.append(svg("text", { class: "tick", x: frame.left - 8, y: y + 4, "text-anchor": "end" }, options.y(tick)));
  }
  const all = series.flatMap((one) => one.points.map(([x]) => x));
  const [first, last] = [Math.min(...all), Math.max(...all)];
  out.append(svg("text", { class: "tick", x: frame.left, y: HEIGHT - 6 }, options.x(first)));
  if (last > first) out.append(svg("text", { class: "tick", x: frame.right, y: HEIGHT - 6, "text-anchor": "end" }, options.x(last)));
  if (at !== undefined) out.append(svg("line", { class: "cross", x1: frame.x(at), x2: frame.x(at), y1: frame.top, y2: frame.bottom }));
  for (const { points, colour, dashed } of series) {
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${frame.x(x).toFixed(1)} ${frame.y(y).toFixed(1)}`).join("");
    out.append(svg("path", { class: `curve series-${colour}${dashed ? " dashed" : ""}`, d }));
    const end = at === undefined ? points.at(-1) : points.findLast(([x]) => x <= at);
    if (end) out.append(svg("circle", { class: `dot series-${colour}`, cx: frame.x(end[0]), cy: frame.y(end[1]), r: 4 }));
  }
  return out;
}
