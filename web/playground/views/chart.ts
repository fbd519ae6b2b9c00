/** A small histogram on a canvas, two series over one axis of microseconds. */
import { micros } from "../format.js";
import { bins } from "../math/histogram.js";

const FOOT = 22; // px for the axis

/** Paints the series in the colours of --series-0, --series-1. */
export function chart(canvas: HTMLCanvasElement, series: readonly (readonly number[])[]): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext("2d");
  if (!context || !width) return;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const style = getComputedStyle(canvas);
  const token = (name: string) => style.getPropertyValue(name).trim();
  const all = bins(series, Math.max(12, Math.min(28, Math.floor(width / 20))));
  const top = Math.max(1, ...all.flatMap((bin) => bin.counts));
  const step = width / Math.max(1, all.length);
  all.forEach(({ counts }, i) => {
    counts.forEach((value, which) => {
      if (!value) return;
      const tall = Math.max(2, (value / top) * (height - FOOT - 6));
      const wide = (step - 3) / counts.length;
      context.fillStyle = token(`--series-${which}`);
      context.fillRect(i * step + 1.5 + which * wide, height - FOOT - tall, wide, tall);
    });
  });
  context.strokeStyle = token("--line");
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, height - FOOT + 0.5);
  context.lineTo(width, height - FOOT + 0.5);
  context.stroke();
  axis(context, all, step, height, token("--muted"), style.fontFamily);
}

function axis(
  context: CanvasRenderingContext2D,
  all: ReturnType<typeof bins>,
  step: number,
  height: number,
  colour: string,
  family: string,
): void {
  context.fillStyle = colour;
  context.font = `11px ${family}`;
  context.textBaseline = "bottom";
  const every = Math.max(1, Math.ceil(84 / step));
  all.forEach(({ from }, i) => {
    if (i % every !== 0) return;
    const text = micros(from);
    const last = step * all.length - context.measureText(text).width; // where it still fits
    context.fillText(text, Math.min(i * step + 1, last), height - 3);
  });
}
