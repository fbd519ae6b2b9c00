/** Notes and the typed edges between them: laid out by springs, drawn in SVG, each note a button. */
import { h, put, svg } from "../../src/element/dom.js";
import { shortened } from "../../src/element/words.js";
import type { MemoryEdge, MemoryGraph } from "../../src/runtime.js";

export interface Web {
  element: HTMLElement;
  show(graph: MemoryGraph, hits: ReadonlyMap<number, number>, chosen: number): void;
}

type Spot = { x: number; y: number };

const ROUNDS = 220;
const LABEL = 7; // px of a character
const ROW = 40; // px
const EDGE = 22;
const PLACES = 0.42; // of the width; the rest is for the labels
const COLOURS: Record<MemoryEdge["kind"], number> = { Follows: 0, Cites: 1, SameTopic: 2, AgentStep: 3, Derived: 1, Contains: 2 };

/** @param pick called with a note's id */
export function web(pick: (id: number) => void): Web {
  const stage = h("div", { class: "stage web" });
  const legend = h("ul", { class: "keys" });
  const element = h("figure", { class: "plot" }, stage, legend);
  let last: Parameters<Web["show"]> | null = null;
  const draw = () => {
    if (!last || !stage.clientWidth) return;
    const held = stage.querySelector<SVGElement>(":focus")?.dataset["id"];
    put(stage, picture(...last, stage.clientWidth, pick));
    if (held) stage.querySelector<SVGElement>(`[data-id="${held}"]`)?.focus({ preventScroll: true });
    const kinds = [...new Set(last[0].edges.map((edge) => edge.kind))];
    put(legend, ...kinds.map((kind) => h("li", {}, h("i", { class: `series-${COLOURS[kind]}` }), said(kind))));
  };
  new ResizeObserver(draw).observe(stage);
  const show: Web["show"] = (...given) => {
    last = given;
    draw();
  };
  return { element, show };
}

/** "SameTopic" as "same topic". */
export function said(kind: string): string {
  return kind.replace(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter}`).toLowerCase();
}

function picture({ nodes, edges }: MemoryGraph, hits: ReadonlyMap<number, number>, chosen: number, width: number, pick: (id: number) => void): SVGSVGElement {
  const height = 2 * EDGE + nodes.length * ROW;
  const spots = layout(nodes.map(({ id }) => id), edges, width, height);
  const at = (id: number): Spot => spots.get(id) ?? { x: 0, y: 0 };
  const out = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${nodes.length} notes and ${edges.length} edges around the hits` });
  for (const { source, target, kind, weight } of edges) out.append(line(at(source), at(target), COLOURS[kind], weight));
  for (const { id, text, kind } of nodes) {
    const { x, y } = at(id);
    const room = Math.max(8, Math.floor((width - x - EDGE) / LABEL) - (id === chosen ? 6 : 0)); // in bold
    const label = shortened(text, room);
    const score = hits.get(id);
    const group = svg(
      "g",
      { class: `node${score === undefined ? "" : " hit"}${id === chosen ? " chosen" : ""}`, role: "button", tabindex: 0, "data-id": id, "aria-pressed": String(id === chosen) },
      svg("circle", { cx: x, cy: y, r: 7 + 6 * Math.max(0, score ?? 0) }),
      svg("text", { x: x + 18, y: y + 4 }, label),
      svg("title", {}, `${shortened(text)} (note ${id}, ${said(kind)})`),
    );
    group.addEventListener("click", () => pick(id));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick(id);
    });
    out.append(group);
  }
  return out;
}

/** A straight line with a head short of the note it leads to. */
function line(from: Spot, to: Spot, colour: number, weight: number): SVGElement {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const [dx, dy] = [(to.x - from.x) / length, (to.y - from.y) / length];
  const [tip, base] = [length - 15, length - 24];
  const point = (along: number, aside: number) => `${(from.x + dx * along - dy * aside).toFixed(1)} ${(from.y + dy * along + dx * aside).toFixed(1)}`;
  return svg(
    "g",
    { class: `edge series-${colour}` },
    svg("path", { class: "shaft", d: `M${point(12, 0)}L${point(base, 0)}`, "stroke-width": (1 + 1.6 * weight).toFixed(1) }),
    svg("path", { class: "head", d: `M${point(tip, 0)}L${point(base, 5)}L${point(base, -5)}Z` }),
  );
}

/**
 * Springs along the edges, all others push each other away (Fruchterman & Reingold 1991); the same each time. Then
 * each note gets a row of its own, so that no label lies over another.
 */
function layout(ids: readonly number[], edges: readonly MemoryEdge[], whole: number, height: number): Map<number, Spot> {
  const width = whole * PLACES;
  const spots = new Map(ids.map((id, i) => [id, { x: width / 2 + Math.cos(i * 2.4) * (20 + i * 9), y: height / 2 + Math.sin(i * 2.4) * (20 + i * 5) }]));
  const all = [...spots.values()];
  const ideal = 0.75 * Math.sqrt((width * height) / Math.max(4, all.length));
  for (let round = 0; round < ROUNDS; round++) {
    const most = (1 - round / ROUNDS) * 24;
    const moves = all.map((one) => push(one, all, ideal));
    const place = new Map([...spots.keys()].map((id, i) => [id, i]));
    for (const { source, target } of edges) pull(spots, moves, place, source, target, ideal);
    all.forEach((one, i) => {
      const move = moves[i] ?? { x: 0, y: 0 };
      move.x += (width / 2 - one.x) * 0.04;
      move.y += (height / 2 - one.y) * 0.09;
      const size = Math.hypot(move.x, move.y) || 1;
      one.x = Math.min(width, Math.max(EDGE, one.x + (move.x / size) * Math.min(size, most)));
      one.y = Math.min(height - EDGE, Math.max(EDGE, one.y + (move.y / size) * Math.min(size, most)));
    });
  }
  [...all].sort((a, b) => a.y - b.y).forEach((one, row) => (one.y = EDGE + (row + 0.5) * ROW));
  return spots;
}

function push(one: Spot, all: readonly Spot[], ideal: number): Spot {
  const out = { x: 0, y: 0 };
  for (const other of all) {
    if (other === one) continue;
    const [dx, dy] = [one.x - other.x, one.y - other.y];
    const square = Math.max(1, dx * dx + dy * dy);
    out.x += (dx / square) * ideal * ideal * 0.5;
    out.y += (dy / square) * ideal * ideal * 0.5;
  }
  return out;
}

function pull(spots: Map<number, Spot>, moves: Spot[], place: Map<number, number>, source: number, target: number, ideal: number): void {
  const [a, b] = [spots.get(source), spots.get(target)];
  const [from, to] = [moves[place.get(source) ?? -1], moves[place.get(target) ?? -1]];
  if (!a || !b || !from || !to) return;
  const [dx, dy] = [a.x - b.x, a.y - b.y];
  const force = Math.hypot(dx, dy) / ideal;
  from.x -= dx * force;
  from.y -= dy * force;
  to.x += dx * force;
  to.y += dy * force;
}
