/** Values that can leave for another world as JSON. */
import { RuvllmError } from "./errors.js";

const DEEPEST = 100; // levels; Python in a browser ends with its stack somewhere above

/**
 * Arguments by name, as JSON; what is undefined is left out.
 *
 * @throws RuvllmError naming the one that cannot be written as such
 */
export function json(given: object): string {
  return JSON.stringify(plain(given, ""));
}

/**
 * Options as a caller gave them, without what is null.
 *
 * @throws RuvllmError when they are no object
 */
export function options<T extends object>(given: T | null | undefined, name = "options"): T {
  if (typeof (given ?? {}) !== "object") {
    throw new RuvllmError(`${name} is a ${typeof given}`, { name: "InputError", field: name, fix: "pass an object" });
  }
  return Object.fromEntries(Object.entries(given ?? {}).filter(([, value]) => value !== null && value !== undefined)) as T;
}

/**
 * A copy of an exported file.
 *
 * @throws RuvllmError when it is not bytes
 */
export function stateBytes(given: unknown): Uint8Array<ArrayBuffer> {
  if (given instanceof ArrayBuffer) return new Uint8Array(given.slice(0));
  if (ArrayBuffer.isView(given)) return new Uint8Array(new Uint8Array(given.buffer, given.byteOffset, given.byteLength));
  throw new RuvllmError("state is no Uint8Array", { name: "InputError", field: "state", fix: "pass what `export` gave" });
}

/** Plain data of whole characters: half of one, which UTF-8 cannot hold, becomes U+FFFD. */
function plain(value: unknown, where: string, depth = 0): unknown {
  if (typeof value === "string") return wellFormed(value);
  if (value === null || typeof value === "boolean" || Number.isFinite(value)) return value;
  if (typeof value !== "object" || depth > DEEPEST) {
    const message = depth > DEEPEST ? "is nested too deeply" : `holds ${typeof value === "number" ? value : `a ${typeof value}`}`;
    const field = /^\w*/.exec(where)?.[0] ?? "";
    throw new RuvllmError(`${field} ${message}, which cannot be written as JSON`, { name: "InputError", field, fix: "pass plain data" });
  }
  const { toJSON } = value as { toJSON?: unknown };
  if (typeof toJSON === "function") return plain(toJSON.call(value), where, depth + 1);
  if (Array.isArray(value)) return value.map((one) => plain(one ?? null, where, depth + 1));
  const given = Object.entries(value).filter(([, one]) => one !== undefined);
  return Object.fromEntries(given.map(([name, one]) => [wellFormed(name), plain(one, where || name, depth + 1)]));
}

function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}
