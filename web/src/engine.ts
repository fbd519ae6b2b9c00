/** The router itself, host-neutral: Python, the artifacts in it, and RuvLTRA when it has come. */
import type { Answering } from "./crossing.js";
import { closedError, RuvllmError, toRuvllmError } from "./errors.js";
import { openSession, type Session } from "./onnx.js";
import { json } from "./plain.js";
import { bootPython, type Bridge, installPackages, open, openBridge, pythonDigest } from "./python.js";
import { type Call, CHANGES } from "./runtime.js";
import { type Digest, type Ledger, readArtifacts, readChecked, type Site } from "./site.js";
import { OvertakenError, type StateStore } from "./state.js";
import type { Added, EncoderDevice, JobRun, LoadOptions, Stats } from "./types.js";

const REVIEW_AFTER = 30_000; // milliseconds without feedback
const QUIET = 2_000; // milliseconds without a question, until background work is looked for
const BUDGET = 0.1; // seconds that each of it may take at first
const SAVE_AFTER = 1_500; // the same, until outcomes are kept
// What an option may be; the first is the default.
const CHOICES = { encoder: ["cascade", "static", "ruvltra"], device: ["wasm", "webgpu"], dtype: ["q8"] } as const;

/** What a host brings. */
export interface Surroundings {
  site: Site;
  ledger: Ledger;
  /** Where what is learnt stays; none keeps it in memory. */
  store?: StateStore | undefined;
  /** Reads onnxruntime's binary where it cannot be fetched (Node). */
  ortBinary?: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** What is kept from before; a store that cannot be read is left alone, and this visit keeps nothing. */
async function loadState(around: Surroundings): Promise<Uint8Array | null> {
  try {
    return (await around.store?.news()) ?? null;
  } catch {
    around.store = undefined;
    return null;
  }
}

function chosen<K extends keyof typeof CHOICES>(options: EngineOptions, field: K): (typeof CHOICES)[K][number] {
  const among: readonly string[] = CHOICES[field];
  const value = options[field] ?? among[0];
  if (value !== undefined && among.includes(value)) return value as (typeof CHOICES)[K][number];
  throw new RuvllmError(`${field} is ${String(value)}`, { name: "InputError", field, fix: `use one of ${among.join(", ")}` });
}

export type EngineOptions = { [K in "agents" | "encoder" | "device" | "dtype" | "snapshot" | "reviewAfter"]?: LoadOptions[K] | undefined };

/** Routes in this thread. */
export class Engine implements Answering {
  readonly #around: Surroundings;
  readonly #bridge: Bridge;
  readonly #mode: string;
  readonly #device: EncoderDevice;
  readonly #from: string;
  readonly #byHand: () => Promise<Digest>;
  #dim = 0;
  #session: Session | undefined;
  #ruvltra: "off" | "loading" | "come" | "failed" = "off";
  #ruvltraError = "";
  #queue: Promise<unknown> = Promise.resolve();
  #reviewAfter = 0; // milliseconds
  #reviewAt = Infinity; // by performance.now()
  #workTimer: ReturnType<typeof setTimeout> | undefined;
  #busy = 0; // questions and background work under way
  #saveTimer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  /** A page that names its agents decides on them at each visit. */
  #keepsAgents = false;

  private constructor(
    around: Surroundings, bridge: Bridge, mode: string, device: EncoderDevice, from: string, byHand: () => Promise<Digest>,
  ) {
    this.#around = around;
    this.#from = from;
    this.#byHand = byHand;
    this.#bridge = bridge;
    this.#mode = mode;
    this.#device = device;
  }

  /** Python, the packages and the table at once; resolves when it routes, while RuvLTRA still loads. */
  static async boot(around: Surroundings, options: EngineOptions): Promise<Engine> {
    const { site, ledger } = around;
    const mode = chosen(options, "encoder");
    const device = chosen(options, "device");
    chosen(options, "dtype");
    ledger.open(site.index.files);
    const booting = bootPython(site, options.snapshot ?? true);
    const byHand = async (): Promise<Digest> => pythonDigest((await booting).python);
    const packages = Promise.all(site.index.packages.map((file) => readChecked(site, file, byHand)));
    const bridged = Promise.all([booting, packages]).then(([{ python }, read]) => {
      ledger.finish("python");
      installPackages(python, read.map((data, i) => [site.index.packages[i] ?? "", data]));
      ledger.finish("packages");
      return openBridge(python, mode);
    });
    const artifacts = readArtifacts(site, "static", byHand);
    try {
      const [bridge, table, saved] = await Promise.all([bridged, artifacts, loadState(around)]);
      const engine = new Engine(around, bridge, mode, device, (await booting).from, byHand);
      engine.#reviewAfter = options.reviewAfter ?? REVIEW_AFTER;
      for (const [name, data] of table) bridge.host.put(name, data);
      ledger.finish("static");
      await engine.#start(options.agents, saved);
      ledger.finish("ready");
      engine.#workLater();
      around.store?.listen(() => void engine.#change(async () => undefined).catch(() => undefined)); // it begins with the news
      return engine;
    } catch (error) {
      throw toRuvllmError(error, "baseURL");
    }
  }

  async #start(agents: LoadOptions["agents"], saved: Uint8Array | null): Promise<void> {
    if (this.#mode === "ruvltra") await this.#fetchRuvLTRA();
    this.#keepsAgents = !agents && this.#around.store !== undefined;
    const { dim, lost } = await open<{ dim: number; lost: boolean }>(this.#bridge.start(json({ agents }), saved ?? undefined));
    this.#dim = dim;
    if (lost && saved) await this.#around.store?.setAside(saved);
    if (this.#mode === "ruvltra") this.#around.ledger.finish("ruvltra");
    this.#upgradeBehind(); // many agents begin with their texts alone
    if (this.#mode === "cascade") void this.#bringRuvLTRA();
  }

  /** Fetch RuvLTRA and change over to it; a failure leaves the table in charge and is told by `stats`. */
  async #bringRuvLTRA(): Promise<void> {
    for (const wait of [2_000, 10_000, 60_000, 0]) {
      try {
        await this.#fetchRuvLTRA();
        await this.#upgrade();
        this.#around.ledger.finish("ruvltra");
        return;
      } catch (error) {
        if (this.#closed) return;
        this.#ruvltraError = toRuvllmError(error).message;
        if (wait === 0) break;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
    this.#ruvltra = "failed";
  }

  async #fetchRuvLTRA(): Promise<void> {
    if (this.#session) return;
    this.#ruvltra = "loading";
    const { site, ortBinary } = this.#around;
    const [artifacts, binary] = await Promise.all([readArtifacts(site, "ruvltra", this.#byHand), ortBinary?.()]);
    const [model = ""] = [...artifacts.keys()].filter((name) => name.endsWith(".onnx"));
    const keeping = Promise.all([...artifacts].map(([name, data]) => site.keep?.(site.index.artifacts[name] ?? "", data)));
    const session = await openSession(site, artifacts.get(model) ?? new Uint8Array(), this.#device, binary);
    await keeping;
    this.#session = session;
    for (const [name, data] of artifacts) if (name !== model) this.#bridge.host.put(name, data);
    this.#bridge.host.connect((ids) => session.run(ids));
  }

  /** Fit what was begun, and change over to RuvLTRA where it has come. One that is on its way takes in what changed meanwhile; a second call need not wait. */
  async #upgrade(): Promise<void> {
    if (this.#mode === "ruvltra") return;
    if (this.#session) this.#ruvltra = "come";
    if (await open<boolean>(this.#bridge.call("upgrade", "{}"))) await this.#change(() => this.#save());
  }

  /** The agents or the state are new: RuvLTRA has to read them. */
  #upgradeBehind(): void {
    void this.#upgrade().catch((error: unknown) => {
      this.#ruvltraError = toRuvllmError(error).message;
      this.#ruvltra = "failed";
    });
  }

  /** Changes go one after the other, in all tabs: each upon what others have saved. Routes do not wait for them. */
  #change<T>(work: () => Promise<T>): Promise<T> {
    const { store } = this.#around;
    return this.#inTurn(() => (store ? store.alone(() => this.#upon(store, work)) : work()));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async #upon<T>(store: StateStore, work: () => Promise<T>): Promise<T> {
    for (;;) {
      const news = this.#closed ? null : await store.news();
      if (news) await this.#update(store, news);
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof OvertakenError)) throw error;
      }
    }
  }

  /** Another tab has saved this; what cannot be used is set aside rather than written over. */
  async #update(store: StateStore, bytes: Uint8Array): Promise<void> {
    const more = await open<boolean>(this.#live.update(bytes)).catch(async () => {
      await store.setAside(bytes);
      return true;
    });
    if (more) this.#upgradeBehind();
  }

  /** Save the state where it survives a reload, and let the other tabs hear of it. */
  async #save(): Promise<void> {
    const { store } = this.#around;
    if (!store) return;
    await store.save(await open<Uint8Array>(this.#live.dump()));
    store.tell();
  }

  /** A method of Python's; what it changes is saved. */
  ask<T>(call: Call, body: object = {}): Promise<T> {
    const work = (): Promise<T> => this.#ask(call, body);
    return call === "stats" ? work() : this.#busily(work); // who only looks disturbs no quiet
  }

  async #busily<T>(work: () => Promise<T>): Promise<T> {
    this.#busy += 1;
    try {
      return await work();
    } finally {
      this.#busy -= 1;
      this.#workLater();
    }
  }

  async #ask<T>(call: Call, body: object): Promise<T> {
    const given = json(body);
    const answer = (): Promise<T> => open<T>(this.#live.call(String(call), given));
    if (CHANGES.has(call)) return this.#change(async () => this.#changed(call, await answer()));
    const value = await answer();
    if (call === "record_outcome") this.#saveLater();
    if (call === "embed") return { dim: this.#dim, data: value } as T;
    return call === "stats" ? ({ ...value, ...this.#stats(value as Stats) } as T) : value;
  }

  async #changed<T>(call: Call, value: T): Promise<T> {
    const agents = call === "add_agents" || call === "reset_agents";
    if (agents || (call === "undo_feedback" && value)) this.#upgradeBehind();
    if (agents) return { ...value, ...(await this.#saveAgents(value as Added)) };
    if (value !== false) await this.#save();
    if (call === "feedback" && this.#reviewAfter) this.#reviewAt = performance.now() + this.#reviewAfter;
    return value;
  }

  /** What cannot be saved is a problem of later visits: this one has the agents. */
  async #saveAgents({ problems }: Added): Promise<Partial<Added>> {
    if (!this.#keepsAgents) return { kept: false };
    try {
      await this.#save();
      return { kept: true };
    } catch (error) {
      if (error instanceof OvertakenError) throw error;
      const { field, message, fix } = toRuvllmError(error, "state");
      return { kept: false, problems: [...problems, { field, message, fix }] };
    }
  }

  /** Outcomes come quickly one after the other, and each would write the whole file. */
  #saveLater(): void {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = setTimeout(() => void this.#saveOutcomes().catch(() => undefined), SAVE_AFTER);
    (this.#saveTimer as { unref?: () => void }).unref?.(); // Node may end before
  }

  async #saveOutcomes(): Promise<void> {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = undefined;
    await this.ask("save_backends");
  }

  /** Once nobody has asked anything for a while. */
  #workLater(): void {
    clearTimeout(this.#workTimer);
    if (this.#busy || this.#closed) return; // whoever is busy comes back here
    this.#workTimer = setTimeout(() => void this.#busily(() => this.#work()).catch(() => undefined), QUIET);
    (this.#workTimer as { unref?: () => void }).unref?.(); // Node may end before
  }

  /** What of the background work is due. Nobody need wait for it; only saving what it did takes a turn. */
  async #work(): Promise<void> {
    const review = this.#reviewAt <= performance.now();
    if (review) this.#reviewAt = Infinity;
    const runs = await open<JobRun[]>(this.#live.call(review ? "review" : "run_jobs", json(review ? {} : { budget: BUDGET })));
    if (review && runs.some(({ stopped }) => stopped)) this.#reviewAt = 0;
    if (runs.some(({ outcome }) => outcome)) await this.#change(() => this.#save());
  }

  async export(): Promise<Uint8Array> {
    if (this.#saveTimer) await this.#saveOutcomes();
    return this.#inTurn(() => open<Uint8Array>(this.#live.dump()));
  }

  async import(bytes: Uint8Array): Promise<void> {
    return this.#change(async () => {
      // What was there before comes back without it, too.
      await open(this.#live.restore(bytes)).finally(() => this.#upgradeBehind());
      await this.#save();
    });
  }

  /** What Python does not know. */
  #stats({ encoder }: Stats): Partial<Stats> {
    const { index } = this.#around.site;
    return {
      // "warming": it has come, and reads the agents before it is asked
      ruvltra: encoder !== "static" ? "ready" : this.#ruvltra === "come" ? "warming" : this.#ruvltra,
      ruvltra_error: this.#ruvltraError,
      device: this.#session?.device ?? "",
      device_note: this.#session?.note ?? "",
      store: this.#around.store?.kind ?? "memory",
      started_from: this.#from,
      version: index.version,
      build: index.build,
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    if (this.#saveTimer) await this.#saveOutcomes().catch(() => undefined);
    await this.#queue;
    this.#closed = true;
    clearTimeout(this.#workTimer);
    this.#around.store?.close();
    this.#bridge.close();
    await this.#session?.close();
  }

  get #live(): Bridge {
    if (!this.#closed) return this.#bridge;
    throw closedError("router");
  }
}
