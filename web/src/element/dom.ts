/** Builds DOM nodes. Text only ever becomes text nodes, so data can never turn into markup. */
import { shortened } from "./words.js";

export type Child = Node | string | number | false | null | undefined;
type Listener = (event: never) => void;
export type Props = Record<string, string | number | boolean | Listener | null | undefined>;

/** `h("button", { part: "go", onclick: run }, "Go")`: true is an empty attribute; false and null are none. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill<E extends Element>(element: E, props: Props, children: Child[]): E {
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** What a person or a file says: in the direction that it is written in, and an endless text by its beginning. */
export function quoted<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props, text: string, most?: number): HTMLElementTagNameMap[K] {
  return h(tag, { dir: "auto", ...props }, shortened(text, most));
}

/** Replaces what is in `parent`. */
export function put(parent: ParentNode, ...children: Child[]): void {
  parent.replaceChildren(...nodes(children));
}

function append(parent: ParentNode, children: Child[]): void {
  parent.append(...nodes(children));
}

function nodes(children: Child[]): (Node | string)[] {
  return children
    .filter((child): child is Node | string | number => child !== false && child !== null && child !== undefined)
    .map((child) => (typeof child === "number" ? String(child) : child));
}

/** Lets a textarea grow with its text where the stylesheet cannot (`field-sizing`). */
export function grows(area: HTMLTextAreaElement): () => void {
  const fit = (): void => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
  };
  if (globalThis.CSS?.supports("field-sizing", "content")) return () => undefined;
  area.addEventListener("input", fit);
  return fit;
}

/** A 24 px line icon; what it means is said in words beside it. */
export function icon(path: string): SVGSVGElement {
  return svg(
    "svg",
    { viewBox: "0 0 24 24", width: "1.15em", height: "1.15em", "aria-hidden": "true", focusable: "false" },
    svg("path", {
      d: path,
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.8,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
  );
}

const THUMB =
  "M7 11v9H4.5A1.5 1.5 0 0 1 3 18.5v-6A1.5 1.5 0 0 1 4.5 11H7Zm0 0 4-8a2.5 2.5 0 0 1 2.5 2.5V9h5a2 2 0 0 1 2 2.3l-1 7a2 2 0 0 1-2 1.7H7";

/** Thumb up; "down" is the same hand, turned by the stylesheet (class `turned`). */
export function thumb(down = false): SVGSVGElement {
  const out = icon(THUMB);
  if (down) out.classList.add("turned");
  return out;
}
