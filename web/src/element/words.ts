/** Numbers and names of a decision, in words that a person reads. */
import type { Action, Decision, Tier } from "../types.js";

export interface Band {
  /** The action as a short command. */
  title: string;
  /** What that means. */
  detail: string;
}

const BANDS: Record<Action, Band> = {
  use: { title: "Use it", detail: "Sure enough to hand over." },
  confirm: { title: "Confirm first", detail: "Likely, but let a person say yes." },
  escalate: { title: "Escalate", detail: "Not sure: ask a person or a stronger model." },
};

const TIERS: Record<Tier, string> = { 1: "no LLM needed", 2: "small LLM", 3: "large LLM" };

const ENCODERS: Record<string, string> = {
  static: "the word table",
  ruvltra: "RuvLTRA",
  minilm: "MiniLM",
  cascade: "the word table and RuvLTRA together",
};

const STAGES: Record<string, string> = {
  python: "Python",
  packages: "numpy and ruvllm",
  static: "the word table",
  ruvltra: "RuvLTRA",
};

export function stageWords(stage: string): string {
  return STAGES[stage] ?? stage;
}

export function band(action: Action): Band {
  return BANDS[action] ?? BANDS.escalate;
}

export function tierWords(tier: Tier): string {
  return TIERS[tier] ?? `tier ${tier}`;
}

export function encoderWords(encoder: string): string {
  return ENCODERS[encoder] ?? encoder;
}

/** A lead to the agent's name where "no agent fits" is likelier than that agent; else "". */
export function outside({ out_of_scope, confidence }: Decision): string {
  if (out_of_scope <= confidence) return "";
  return out_of_scope > 0.5 ? "Probably no agent fits. The nearest:" : "Perhaps no agent fits. The nearest:";
}

/** 0.934 as "93 %"; never "100 %" nor "0 %", since nothing is certain. */
export function percent(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value > 0.99) return "> 99\u202f%";
  if (value < 0.01) return "< 1\u202f%";
  return `${Math.round(value * 100)}\u202f%`;
}

/** An endless text by its beginning. */
export function shortened(text: string, most = 500): string {
  return text.length > most ? `${text.slice(0, most).replace(/[\ud800-\udbff]$/, "").trimEnd()}…` : text;
}

/** Whether a lesson of this task, or of one as good as it, decided. */
export function isLesson({ evidence }: Decision): boolean {
  return evidence?.scores?.["memory"] !== undefined;
}

/** One sentence for screen readers. */
export function sentence(decision: Decision): string {
  const { title } = band(decision.action);
  const lead = outside(decision);
  return `${lead ? `${lead} ` : ""}${decision.agent}, ${percent(decision.confidence)} confident: ${title}. Tier ${decision.tier}, ${tierWords(decision.tier)}.`;
}

/** What went wrong and, where the error names one, the fix. Names of files are in there: the case stays. */
export function explain(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const fix = (error as { fix?: unknown } | null)?.fix;
  const parts = [message, typeof fix === "string" ? fix : ""].map((part) => part.trim().replace(/\.$/, "")).filter(Boolean);
  return `${parts.join("; ")}.`;
}
