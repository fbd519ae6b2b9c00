/** A small directed graph in SVG-drawn arrows over boxes of HTML: sub-queries flow from left to right, or downwards. */
import { h, svg } from "../../src/element/dom.js";

/** Box i stands behind those in `after[i]`, all of which come before it. */
export interface Dag {
  element: HTMLElement;
  /** The arrows anew, after the boxes have moved. */
  draw(): void;
}

/** The column of each box: one behind the furthest of those it needs. */
export function columns(after: readonly (readonly number[])[]): number[] {
  const out: number[] = [];
  for (const needs of after) out.push(needs.length ? Math.max(...needs.map((place) => out[place] ?? 0)) + 1 : 0);
  return out;
}

/**
 * @param root stands before all boxes that need nothing
 */
export function dag(root: HTMLElement, boxes: readonly HTMLElement[], after: readonly (readonly number[])[]): Dag {
  const arrows = svg("svg", { class: "arrows", "aria-hidden": "true" });
  const at = columns(after);
  const wide = Math.max(0, ...at) + 1;
  const lists = Array.from({ length: wide }, (_, column) =>
    h("ol", { class: "column" }, ...boxes.filter((_, i) => at[i] === column).map((box) => h("li", {}, box))),
  );
  const element = h("div", { class: "dag" }, arrows, root, ...lists);
  element.dataset["columns"] = String(wide);
  const draw = () => {
    const frame = element.getBoundingClientRect();
    if (!frame.width) return;
    arrows.replaceChildren();
    boxes.forEach((box, i) => {
      const needs = after[i] ?? [];
      const sources = needs.length ? needs.map((place) => ({ from: boxes[place] ?? root, needed: true })) : [{ from: root, needed: false }];
      for (const { from, needed } of sources) {
        const d = path(from.getBoundingClientRect(), box.getBoundingClientRect(), frame);
        arrows.append(svg("path", { class: needed ? "needed" : "given", d }));
      }
    });
  };
  new ResizeObserver(draw).observe(element);
  return { element, draw };
}

/** From the right edge to the left one; where the boxes stand in a stack, down beside those between them. */
function path(from: DOMRect, to: DOMRect, frame: DOMRect): string {
  if (to.left >= from.right) {
    const [x1, y1] = [from.right - frame.left, from.top + from.height / 2 - frame.top];
    const [x2, y2] = [to.left - frame.left, to.top + to.height / 2 - frame.top];
    const bend = (x2 - x1) / 2;
    return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  const y = to.top + Math.min(28, to.height / 2) - frame.top;
  if (to.left > from.left) {
    const down = from.left - frame.left + 14;
    return `M${down} ${from.bottom - frame.top}V${y - 12}Q${down} ${y} ${to.left - frame.left} ${y}`;
  }
  const [x, y1] = [from.left - frame.left, from.top + Math.min(28, from.height / 2) - frame.top];
  const out = x - 10;
  return `M${x} ${y1}Q${out} ${y1} ${out} ${y1 + 14}V${y - 14}Q${out} ${y} ${x} ${y}`;
}
