/** Draws the line from the task through the agent, and the branches, behind a decision card. */
import { svg } from "../../src/element/dom.js";

const GAP = 13; // between the branches, px
const BEND = 11; // radius of their turn, px

/** Measures the card and draws; called again whenever its size changes, then without growing anew. */
export function drawRails(card: HTMLElement, grow = false): void {
  const board = card.querySelector<SVGSVGElement>(".rails");
  const start = card.querySelector(".start");
  const ring = card.querySelector(".ring");
  if (!board || !start || !ring) return;
  const origin = card.getBoundingClientRect();
  if (!origin.width) return; // hidden: drawn when it is shown
  const box = (element: Element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return { x: left - origin.left + width / 2, y: top - origin.top + height / 2, r: width / 2 };
  };
  const hub = box(ring);
  const from = box(start);
  const stops = [...card.querySelectorAll<HTMLElement>(".others li")];
  const middle = (Math.min(stops.length, 5) - 1) / 2;
  const branches = stops.map((stop, i) => {
    const dot = stop.querySelector(".stop");
    if (!dot) return null;
    const end = box(dot);
    const x = hub.x + (middle - i) * GAP;
    const bend = end.x < x ? -BEND : BEND; // where writing goes to the left
    const confidence = Number(stop.dataset["confidence"]) || 0;
    return svg("path", {
      class: "branch",
      d: `M${x} ${hub.y} V${end.y - BEND} Q${x} ${end.y} ${x + bend} ${end.y} H${end.x}`,
      "stroke-width": 2 + 9 * confidence,
      pathLength: 1,
    });
  });
  board.classList.toggle("grow", grow);
  board.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
  board.replaceChildren(
    ...branches.filter((branch) => branch !== null),
    svg("path", { class: "trunk", d: `M${from.x} ${from.y} L${hub.x} ${hub.y}`, "stroke-width": 7, pathLength: 1 }),
  );
}
