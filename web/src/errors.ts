/** The one error of this package: what is wrong, where, and how to mend it. */
export class RuvllmError extends Error {
  /** The option, argument or file that is wrong. */
  readonly field: string;
  /** What to do about it. */
  readonly fix: string;

  constructor(message: string, options: { name?: string; field?: string; fix?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = options.name ?? "RuvllmError";
    this.field = options.field ?? "";
    this.fix = options.fix ?? "";
  }

  /** Plain data, for a crossing between threads. */
  toJSON(): { name: string; message: string; field: string; fix: string } {
    return { name: this.name, message: this.message, field: this.field, fix: this.fix };
  }
}

/** Any thrown value as a RuvllmError. Long texts (Pyodide's own) are cut. */
export function toRuvllmError(error: unknown, field = ""): RuvllmError {
  if (error instanceof RuvllmError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new RuvllmError(message.slice(0, 2000), { field });
}
