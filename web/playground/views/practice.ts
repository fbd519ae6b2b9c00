/** Practice for the choice of backends: sample prompts whose answers are good by the chances that a person states. */
import type { RuvLLM } from "../../src/client.js";
import type { BackendStats, Limits } from "../../src/runtime.js";
import type { Stated } from "./backends.js";
import { EASY, ENDS, HARD } from "./prompts.js";

/** One practised prompt. */
export interface Practised {
  hard: boolean;
  backend: string;
  good: boolean;
}

const AT_ONCE = 5; // prompts between two pictures

/**
 * Ask `prompts` of them, a third hard, and tell each outcome.
 *
 * @param seen called every few prompts
 * @param stopped ends it early
 */
export async function practise(
  router: RuvLLM,
  backends: readonly Stated[],
  limits: Limits,
  prompts: number,
  seen: (row: Practised[], stats: BackendStats) => void,
  stopped: () => boolean,
): Promise<void> {
  const known = new Map(backends.map((one) => [one.name, one]));
  let fresh: Practised[] = [];
  for (let i = 1; i <= prompts && !stopped(); i++) {
    const hard = Math.random() < 1 / 3;
    const { choice_id, backend } = await router.select(`${any(hard ? HARD : EASY)} ${any(ENDS)}`.trim(), limits);
    const one = known.get(backend);
    const good = Math.random() < ((hard ? one?.hard : one?.quality) ?? 0);
    const stats = await router.recordOutcome(choice_id, { success: good });
    fresh.push({ hard, backend, good });
    if (i % AT_ONCE && i < prompts) continue;
    seen(fresh, stats);
    fresh = [];
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
}

function any<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)] as T;
}
