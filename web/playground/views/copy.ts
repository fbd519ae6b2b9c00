/** Copying by a button that says what came of it. */
import { put } from "../../src/element/dom.js";

/** @param refusal what it says where the browser does not allow that, as over plain http */
export async function copy(button: HTMLButtonElement, text: string, refusal: string): Promise<void> {
  const before = button.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    put(button, "Copied");
  } catch {
    put(button, refusal);
  }
  setTimeout(() => put(button, before), 2000);
}
