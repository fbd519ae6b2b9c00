/** The one error of this package: what is wrong, where, and how to mend it. */
export class RuvllmError extends Error {
  static {
    Object.defineProperty(this, "name", { value: "RuvllmError" }); // whatever a minifier calls it
  }

  /** The option, argument or file that is wrong. */
  readonly field: string;
  /** What to do about it. */
  readonly fix: string;

  constructor(message: string, options: { name?: string; field?: string; fix?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = options.name ?? "RuvllmError";
    this.field = options.field ?? "";
    this.fix = options.fix ?? "";
    if (this.stack) this.stack = this.stack.replace(/^Error/, this.name); // V8 writes it before there is a name
  }

  /** Plain data, for a crossing between threads. */
  toJSON(): { name: string; message: string; field: string; fix: string } {
    return { name: this.name, message: this.message, field: this.field, fix: this.fix };
  }
}

/** Any thrown value as a RuvllmError; of a Python traceback its last line, which says what went wrong. */
export function toRuvllmError(error: unknown, field = ""): RuvllmError {
  if (error instanceof RuvllmError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const told = message.includes("Traceback (most recent call last)") ? message.trim().split("\n").at(-1) ?? "" : message;
  return new RuvllmError(told.slice(0, 2000), { field, cause: error });
}

/** For the constructor of what can only be loaded. */
export function notNew(name: string, load: string): RuvllmError {
  return new RuvllmError(`new ${name}() makes nothing that works: it has to load first`, { name: "InputError", field: name, fix: `await ${load}` });
}

export function closedError(what: string): RuvllmError {
  return new RuvllmError(`this ${what} is closed`, { name: "ClosedError", field: "close", fix: "load a new one" });
}
