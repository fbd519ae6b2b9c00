/** Where the points of the map go on the canvas, and which names fit. */

export interface Point {
  name: string;
  category: string;
  x: number;
  y: number;
}

export interface Frame {
  width: number;
  height: number;
  /** Plane to pixels. */
  place: (x: number, y: number) => [number, number];
}

type Box = [left: number, top: number, right: number, bottom: number];

const MARGIN = 42;

/** Fits all points into the canvas, each axis by its own scale: only nearness matters here. */
export function frame(points: readonly { x: number; y: number }[], width: number, height: number): Frame {
  const range = (values: number[], size: number) => {
    const low = Math.min(...values);
    const span = Math.max(...values) - low || 1;
    return (value: number) => MARGIN + ((value - low) / span) * (size - 2 * MARGIN);
  };
  const x = range(points.map((point) => point.x), width);
  const y = range(points.map((point) => -point.y), height);
  return { width, height, place: (px, py) => [x(px), y(-py)] };
}

export interface Label {
  text: string;
  x: number;
  y: number;
  /** Radius of its dot, px. */
  r?: number;
}

/**
 * Greedy: takes names in order of importance and leaves out those that would overlap a name or a dot;
 * the first `strong` ones may cover dots.
 */
export function labels(
  wanted: readonly Label[],
  widthOf: (text: string) => number,
  { width, height }: { width: number; height: number },
  strong = 0,
  lineHeight = 15,
): Label[] {
  const overlaps = ([l, t, r, b]: Box, [l2, t2, r2, b2]: Box): boolean => l < r2 && r > l2 && t < b2 && b > t2;
  const names: Box[] = [];
  const dots = wanted.map(({ x, y, r = 5 }): Box => [x - r, y - r, x + r, y + r]);
  const out: Label[] = [];
  for (const [i, { text, x, y, r = 5 }] of wanted.entries()) {
    const w = widthOf(text) + 4;
    const spots: [number, number][] = [
      [x + r + 4, y - lineHeight / 2],
      [x - r - 4 - w, y - lineHeight / 2],
      [x - w / 2, y - lineHeight - r - 2],
      [x - w / 2, y + r + 2],
    ];
    for (const [left, top] of spots) {
      const box: Box = [left, top, left + w, top + lineHeight];
      const inside = left > 2 && top > 2 && box[2] < width - 2 && box[3] < height - 2;
      const taken = i < strong ? names : [...names, ...dots];
      if (!inside || taken.some((other) => overlaps(box, other))) continue;
      names.push(box);
      out.push({ text, x: left, y: top + lineHeight / 2 });
      break;
    }
  }
  return out;
}
