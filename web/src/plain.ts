/** Values that can leave for another world as JSON. */
import { RuvllmError } from "./errors.js";

/**
 * An argument as JSON.
 *
 * @throws RuvllmError when it cannot be written as such
 */
export function json(value: unknown, field: string): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // a cycle or a BigInt: told below
  }
  if (text !== undefined) return text;
  throw new RuvllmError(`${field} cannot be written as JSON`, { name: "InputError", field, fix: "pass plain data" });
}
