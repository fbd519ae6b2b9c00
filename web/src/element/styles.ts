/** The element's own look; every colour is a custom property that a page can set. */

const PALETTE = {
  color: ["#17212b", "#e8edf1"],
  muted: ["#55626d", "#9aa7b2"],
  background: ["#ffffff", "#182028"],
  field: ["#f4f6f7", "#10161c"],
  border: ["#d5dce0", "#303c47"],
  accent: ["#2348c8", "#9db2ff"],
  "on-accent": ["#ffffff", "#0f1630"],
  use: ["#0b7a4e", "#4cc38a"],
  confirm: ["#96600a", "#e0a63f"],
  escalate: ["#b83227", "#f0796b"],
} as const;

/** `--_accent` is the page's `--ruvllm-accent`, or ours. */
function palette(value: (pair: readonly [string, string]) => string): string {
  return Object.entries(PALETTE)
    .map(([name, pair]) => `--_${name}:var(--ruvllm-${name},${value(pair)});`)
    .join("");
}

const COLOURS = `
:host{${palette(([light]) => light)}}
@media (prefers-color-scheme:dark){:host{${palette(([, dark]) => dark)}}}
@supports (color:light-dark(red,red)){:host{${palette(([light, dark]) => `light-dark(${light},${dark})`)}}}
:host([theme=light]){color-scheme:light}
:host([theme=dark]){color-scheme:dark}
:host([theme=auto]){color-scheme:light dark}
`;

const LAYOUT = `
:host{display:block;container-type:inline-size;color:var(--_color);
  font:var(--ruvllm-font,1rem/1.5 system-ui,-apple-system,"Segoe UI",sans-serif)}
:host([hidden]),[hidden]{display:none!important}
*{box-sizing:border-box}
.box{background:var(--_background);border:1px solid var(--_border);border-radius:var(--ruvllm-radius,14px);padding:1.1em}
label{display:block;font-weight:600;margin-bottom:.45em}
.row{display:flex;gap:.5em;align-items:stretch}
textarea,select{font:inherit;color:inherit;background:var(--_field);border:1px solid var(--_border);
  border-radius:calc(var(--ruvllm-radius,14px) - 5px);padding:.6em .75em}
textarea{flex:1;min-width:0;resize:none;field-sizing:content;max-height:10em}
textarea::placeholder{color:var(--_muted);opacity:1}
select{padding:.4em .5em;max-width:100%;min-width:0}
button{font:inherit;font-weight:600;color:var(--_accent);background:transparent;border:1px solid var(--_border);
  border-radius:calc(var(--ruvllm-radius,14px) - 5px);padding:.4em .75em;cursor:pointer;
  display:inline-flex;gap:.4em;align-items:center;justify-content:center}
button:hover:not(:disabled){border-color:var(--_accent)}
button:disabled{opacity:.55;cursor:default}
button.main{background:var(--_accent);color:var(--_on-accent);border-color:var(--_accent);padding:.6em 1.1em}
button[aria-pressed=true]{background:var(--_accent);color:var(--_on-accent);border-color:var(--_accent)}
:focus-visible{outline:3px solid var(--_accent);outline-offset:2px}
.turned{transform:rotate(180deg)}
.hint{color:var(--_muted);font-size:.9em;margin:.6em 0 0}
progress{width:100%;height:.4em;accent-color:var(--_accent);display:block;margin-top:.6em}
.problem{color:var(--_escalate);margin:.8em 0 0}
@container (max-width:19em){.row{flex-direction:column}}
`;

const RESULT = `
.result{transition:opacity .15s}
.head{margin-top:1.1em}
.result[aria-busy=true]{opacity:.55}
.head{display:flex;flex-wrap:wrap;gap:.1em .8em;align-items:baseline;justify-content:space-between}
.agent{font-size:1.5em;font-weight:700;line-height:1.2;letter-spacing:-.01em;overflow-wrap:anywhere;margin:0}
.none{font-size:.9em;color:var(--_muted);margin:0;flex-basis:100%}
.figure{font-weight:700;font-variant-numeric:tabular-nums;color:var(--band)}
.use{--band:var(--_use)}.confirm{--band:var(--_confirm)}.escalate{--band:var(--_escalate)}
.bar{height:.5em;border-radius:1em;background:var(--_field);overflow:hidden;margin:.5em 0 .6em}
.bar>i{display:block;height:100%;background:var(--band,var(--_accent));border-radius:inherit;transition:width .3s}
.words{margin:0}
.words b{color:var(--band)}
.tier{color:var(--_muted);font-size:.9em;margin:.15em 0 0}
.others{list-style:none;margin:.9em 0 0;padding:.8em 0 0;border-top:1px solid var(--_border);display:grid;gap:.3em}
.others li{display:grid;grid-template-columns:minmax(6em,1fr) minmax(3em,8em) 3.4em;gap:.7em;align-items:center;font-size:.92em}
.others .bar{margin:0;--band:var(--_muted)}
.others span:first-child{overflow-wrap:anywhere}
.others span:last-child{text-align:right;font-variant-numeric:tabular-nums;color:var(--_muted)}
.feedback{display:flex;flex-wrap:wrap;gap:.5em;align-items:center;margin-top:.9em}
.feedback form{display:flex;flex-wrap:wrap;gap:.5em;align-items:center;flex:1 0 100%;min-width:0;max-width:100%}
.feedback select{flex:1 1 10em}
.feedback form label{margin:0;font-weight:400;flex-basis:100%}
.said{color:var(--_muted);font-size:.92em;margin:0}
@media (prefers-reduced-motion:reduce){*{transition:none!important}}
@media (forced-colors:active){.bar{border:1px solid CanvasText}.bar>i{background:Highlight;forced-color-adjust:none}}
`;

let sheet: CSSStyleSheet | undefined;

/** One sheet for all elements of a page. */
export function styles(): CSSStyleSheet {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync((COLOURS + LAYOUT + RESULT).replace(/\s*\n\s*/g, ""));
  }
  return sheet;
}
