/** A reliability diagram: how often decisions of each confidence were right, beside the line of perfect calibration. */
import { h, svg } from "../../src/element/dom.js";
import { share } from "../views/money.js";
import type { Reliability } from "../../src/runtime.js";

const SIDE = 300; // units of the picture
const LEFT = 44;
const FOOT = 40;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

export function reliabilityDiagram({ bins, decisions }: Reliability): HTMLElement {
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const x = (value: number) => LEFT + value * (SIDE - LEFT - 22);
  const y = (value: number) => SIDE - FOOT - value * (SIDE - FOOT - 12);
  const told = bins.map(({ confidence, right, count }) => `${share(confidence)} confident: ${share(right)} right of ${count}`);
  const out = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img", "aria-label": `Reliability over ${decisions} decisions. ${told.join("; ")}.` });
  for (const tick of TICKS) {
    out.append(
      svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(tick), y2: y(tick) }),
      svg("text", { class: "tick", x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, share(tick)),
      svg("text", { class: "tick", x: x(tick), y: SIDE - FOOT + 20, "text-anchor": "middle" }, share(tick)),
    );
  }
  out.append(
    svg("path", { class: "curve series-3 dashed", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }),
    svg("text", { class: "tick", x: x(0.5), y: SIDE - 4, "text-anchor": "middle" }, "confidence"),
  );
  for (const { confidence, right, count } of bins) {
    const wide = 6 + 6 * (count / most);
    out.append(
      svg("line", { class: "gap", x1: x(confidence), x2: x(confidence), y1: y(confidence), y2: y(right) }),
      svg("circle", { class: "dot series-0", cx: x(confidence), cy: y(right), r: wide / 2 + 2 }, svg("title", {}, `${share(confidence)} confident: ${share(right)} right of ${count}`)),
    );
  }
  return h("figure", { class: "plot square" }, out);
}
