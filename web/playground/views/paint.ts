/** Paints the map of agents onto a canvas. */
import { frame, labels } from "../math/layout.js";
import type { Point } from "../math/layout.js";

export interface Scene {
  points: Point[];
  task: { x: number; y: number } | null;
  /** Numbers of the task's nearest agents with their cosine, best first. */
  nearest: { at: number; cosine: number }[];
  /** Number of the agent that was chosen, or -1. */
  chosen: number;
  hover: number;
  hues: Map<string, number>;
}

/** Paints, and returns where each point went, in CSS pixels. */
export function paint(canvas: HTMLCanvasElement, scene: Scene): [number, number][] {
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const ratio = devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  if (!context || !width || !height) return [];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);

  const style = getComputedStyle(canvas);
  const token = (name: string) => style.getPropertyValue(name).trim();
  const dark = isDark(canvas);
  const { place } = frame(scene.task ? [...scene.points, scene.task] : scene.points, width, height);
  const spots = scene.points.map((point) => place(point.x, point.y));
  const task = scene.task ? place(scene.task.x, scene.task.y) : null;

  if (task) {
    context.lineCap = "round";
    for (const { at, cosine } of [...scene.nearest].reverse()) {
      const spot = spots[at];
      if (!spot) continue;
      context.strokeStyle = at === scene.chosen ? token("--rail") : token("--branch");
      context.lineWidth = at === scene.chosen ? 5 : 1.5 + 4 * Math.max(0, cosine);
      context.beginPath();
      context.moveTo(...task);
      context.lineTo(...spot);
      context.stroke();
    }
  }
  const near = new Set(scene.nearest.map(({ at }) => at));
  scene.points.forEach((point, i) => {
    const spot = spots[i];
    if (!spot) return;
    const large = i === scene.chosen || i === scene.hover;
    const hue = scene.hues.get(point.category) ?? 0;
    context.beginPath();
    context.arc(...spot, large ? 8 : near.has(i) ? 6.5 : 5, 0, 2 * Math.PI);
    context.fillStyle = colour(hue, dark);
    context.fill();
    context.lineWidth = large ? 3 : 2;
    context.strokeStyle = large ? token("--ink") : token("--surface");
    context.stroke();
  });
  if (task) {
    context.beginPath();
    context.arc(...task, 9, 0, 2 * Math.PI);
    context.fillStyle = token("--surface");
    context.fill();
    context.lineWidth = 5;
    context.strokeStyle = token("--rail");
    context.stroke();
  }
  write(context, scene, spots, task, { width, height, ink: token("--ink"), muted: token("--muted"), halo: token("--surface") });
  return spots;
}

export function isDark(element: Element): boolean {
  return getComputedStyle(element).getPropertyValue("--dark").trim() === "1";
}

/** A category's colour, as readable on dark as on light. */
export function colour(hue: number, dark: boolean): string {
  return `hsl(${hue} ${dark ? "58% 66%" : "52% 44%"})`;
}

interface Ink {
  width: number;
  height: number;
  ink: string;
  muted: string;
  halo: string;
}

function write(
  context: CanvasRenderingContext2D,
  scene: Scene,
  spots: [number, number][],
  task: [number, number] | null,
  { width, height, ink, muted, halo }: Ink,
): void {
  const family = getComputedStyle(context.canvas).fontFamily;
  context.font = `600 12px ${family}`;
  context.textBaseline = "middle";
  const first = [scene.hover, scene.chosen, ...scene.nearest.map(({ at }) => at)].filter((at) => at >= 0);
  const order = [...new Set([...first, ...scene.points.keys()])];
  const wanted = order.flatMap((at) => {
    const spot = spots[at];
    const point = scene.points[at];
    return spot && point ? [{ text: point.name, x: spot[0], y: spot[1] }] : [];
  });
  const all = task ? [{ text: "your task", x: task[0], y: task[1], r: 11 }, ...wanted] : wanted;
  const strong = new Set(["your task", ...first.map((at) => scene.points[at]?.name)]);
  context.lineJoin = "round";
  for (const { text, x, y } of labels(all, (word) => context.measureText(word).width, { width, height }, strong.size)) {
    context.lineWidth = 4;
    context.strokeStyle = halo;
    context.strokeText(text, x, y);
    context.fillStyle = strong.has(text) ? ink : muted;
    context.fillText(text, x, y);
  }
}
