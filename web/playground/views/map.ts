/** A map of the agents: those that mean similar things stand near each other, and near the task. */
import { h, put } from "../../src/element/dom.js";
import { explain } from "../../src/element/words.js";
import type { App } from "../app.js";
import { cosine } from "../format.js";
import { dot, fitPlane, project } from "../math/pca.js";
import type { Plane } from "../math/pca.js";
import type { Point } from "../math/layout.js";
import { colour, isDark, paint } from "./paint.js";
import type { Scene } from "./paint.js";
import type { Agent, Embeddings } from "../../src/types.js";

const BATCH = 4; // cards at once: a route never waits behind many
const TABLE = "static"; // reads as many in no time
const TABLE_BATCH = 100;
const NEAREST = 5;

interface Atlas {
  agents: Agent[];
  encoder: string;
  plane: Plane;
  dim: number;
  data: Float32Array;
}

export function mapView(app: App, visible: () => boolean): { panel: HTMLElement; onShow: () => void } {
  const canvas = h("canvas", { class: "map", role: "img", "aria-label": "Map of agents; the nearest to the task are listed below" });
  const note = h("p", { class: "note", role: "status" });
  const list = h("ol", { class: "nearest" });
  const scene: Scene = { points: [], task: null, nearest: [], chosen: -1, hover: -1, hues: new Map() };
  let atlas: Atlas | null = null;
  let spots: [number, number][] = [];
  let running = false;
  let stale = false;

  const legend = h("ul", { class: "hues", "aria-label": "Colours of the categories" });
  const draw = () => {
    spots = paint(canvas, scene);
    put(legend, ...[...scene.hues].map(([kind, hue]) => key(kind, colour(hue, isDark(canvas)))));
  };
  new ResizeObserver(draw).observe(canvas);
  document.addEventListener("themechange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  canvas.addEventListener("pointermove", (event) => {
    const at = closest(spots, event.offsetX, event.offsetY);
    if (at === scene.hover) return;
    scene.hover = at;
    canvas.title = at < 0 ? "" : `${scene.points[at]?.name} (${scene.points[at]?.category})`;
    draw();
  });
  canvas.addEventListener("pointerleave", () => {
    scene.hover = -1;
    draw();
  });

  /** One at a time; what changes meanwhile is taken up after. */
  async function refresh(): Promise<void> {
    if (!visible()) return;
    if (running) return void (stale = true);
    running = true;
    try {
      do {
        stale = false;
        await update();
      } while (stale && visible());
    } catch (error) {
      put(note, explain(error));
    } finally {
      running = false;
    }
  }

  async function update(): Promise<void> {
    const { encoder } = await (await app.open()).stats();
    if (!app.agents.length) return;
    if (atlas?.agents !== app.agents) atlas = await embedAll(app, TABLE);
    await place(atlas);
    if (encoder === TABLE || atlas.encoder !== TABLE) return;
    atlas = await embedAll(app, encoder, (share) => put(note, `RuvLTRA reads the agents' cards, ${Math.round(share * 100)}\u202f%`));
    await place(atlas);
  }

  /** Draws a map, with the task on it. */
  async function place(atlas: Atlas): Promise<void> {
    Object.assign(scene, { points: points(atlas), hues: hues(atlas.agents) });
    const task = app.routed?.task ?? app.task.trim();
    scene.task = null;
    scene.nearest = [];
    if (task) {
      const { data } = await embed(app, [task], atlas.encoder);
      const [x, y] = project(atlas.plane, data);
      scene.task = { x, y };
      scene.nearest = ranked(atlas, data);
    }
    scene.chosen = atlas.agents.findIndex((agent) => agent.name === app.routed?.decision.agent);
    put(
      list,
      ...scene.nearest.map(({ at, cosine: value }) => entry(scene.points[at]?.name ?? "", value, at === scene.chosen)),
    );
    const left = scene.task && !scene.nearest.some(({ at }) => at === scene.chosen);
    put(note, legendWords(Boolean(scene.task), Boolean(left)));
    draw();
  }

  for (const type of ["routed", "agents", "ready"] as const) app.on(type, () => void refresh());
  app.on("progress", ({ stage, loaded, total }) => stage === "ruvltra" && loaded >= total && void refresh());
  const panel = h(
    "section",
    { class: "card mapcard" },
    note,
    h(
      "div",
      { class: "atlas" },
      h("div", {}, canvas, legend),
      h("div", {}, h("h3", {}, "Nearest to the task"), list),
    ),
  );
  return { panel, onShow: () => void refresh() };
}

function legendWords(task: boolean, left: boolean): string {
  const base = "Each dot is an agent, placed by what its card means: a flat view of 256 dimensions, coloured by category.";
  if (!task) return `${base} Type a task to see where it falls.`;
  return left ? `${base} The chosen agent is not among the nearest: its examples and words decided.` : base;
}

function key(kind: string, shade: string): HTMLElement {
  const dot = h("i");
  dot.style.background = shade;
  return h("li", {}, dot, kind);
}

function entry(name: string, value: number, chosen: boolean): HTMLElement {
  const fill = h("i");
  fill.style.width = `${Math.max(0, value) * 100}%`;
  return h(
    "li",
    { class: chosen ? "chosen" : "" },
    h("span", { class: "text", dir: "auto" }, name, chosen ? h("small", {}, " chosen") : null),
    h("span", { class: "bar", "aria-hidden": "true" }, fill),
    h("span", { class: "number", title: "cosine" }, cosine(value)),
  );
}

async function embed(app: App, texts: string[], encoder: string): Promise<Embeddings> {
  return (await app.open()).ask("embed", { texts, static: encoder === TABLE });
}

async function embedAll(app: App, encoder: string, tell?: (share: number) => void): Promise<Atlas> {
  const step = encoder === TABLE ? TABLE_BATCH : BATCH;
  const agents = app.agents;
  const texts = agents.map(({ name, description }) => (description ? `${name}: ${description}` : name.replace(/[-_/]/g, " ")));
  let dim = 0;
  let data = new Float32Array(0);
  for (let at = 0; at < texts.length; at += step) {
    tell?.(at / texts.length);
    const part = await embed(app, texts.slice(at, at + step), encoder);
    if (!at) [dim, data] = [part.dim, new Float32Array(part.dim * texts.length)];
    data.set(part.data, at * dim);
  }
  return { agents, encoder, plane: fitPlane(data, dim), dim, data };
}

function row({ data, dim }: Atlas, at: number): Float32Array {
  return data.subarray(at * dim, (at + 1) * dim);
}

function points(atlas: Atlas): Point[] {
  return atlas.agents.map(({ name, category = "custom" }, i) => {
    const [x, y] = project(atlas.plane, row(atlas, i));
    return { name, category, x, y };
  });
}

function ranked(atlas: Atlas, task: Float32Array): { at: number; cosine: number }[] {
  const all = atlas.agents.map((_, at) => ({ at, cosine: dot(row(atlas, at), task) }));
  return all.sort((a, b) => b.cosine - a.cosine).slice(0, NEAREST);
}

/** A hue per category, as far apart as they go. */
function hues(agents: Agent[]): Map<string, number> {
  const kinds = [...new Set(agents.map((agent) => agent.category ?? "custom"))].sort();
  return new Map(kinds.map((kind, i) => [kind, (i * 137.5 + 210) % 360]));
}

function closest(spots: [number, number][], x: number, y: number): number {
  let best = -1;
  let least = 18 ** 2;
  spots.forEach(([px, py], i) => {
    const far = (px - x) ** 2 + (py - y) ** 2;
    if (far < least) [best, least] = [i, far];
  });
  return best;
}
