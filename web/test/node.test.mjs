// The built folder in Node, with the very files that a page gets: node --test (after build/web.py).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

const { LocalModel, openRouter, RuvLLM, RuvllmError } = await import("../dist/node.js");

const TASK = "add unit tests for the auth module";
const UNSURE = "water the plants while I am on holiday";
const agents = [
  { name: "gardener", description: "Looks after plants, gardens and lawns", examples: ["mow the lawn", "prune the roses"] },
  { name: "cook", description: "Plans meals and cooks them", examples: ["make a soup", "bake bread for six"] },
];
const file = (path, name) => ({ path, text: `---\nname: ${name}\ndescription: ${name} things\n---\nYou are ${name}.\n` });

/** Waits until RuvLTRA has taken over. */
async function ruvltra(llm) {
  for (;;) {
    const stats = await llm.stats();
    if (stats.encoder !== "static" || stats.ruvltra === "failed") return stats;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A kind of background work. */
const jobOf = async (llm, name) => (await llm.stats()).jobs.find((job) => job.name === name);

/** Waits for the background's review. */
async function reviewed(llm) {
  while (!(await llm.stats()).reviews) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** The RuvllmError of a promise that must reject; a Pyodide error is never shown whole, it has a megabyte. */
async function rejected(promise) {
  const error = await promise.then(() => assert.fail("nothing was thrown"), (reason) => reason);
  assert.ok(error instanceof RuvllmError, String(error?.message).slice(0, 300));
  assert.ok(error.message && error.field && error.fix, JSON.stringify(error));
  return error;
}

describe("the built-in agents", () => {
  const progress = [];
  const infos = [];
  let llm;
  before(async () => {
    llm = await RuvLLM.load({ onProgress: (step) => progress.push(step), progress_callback: (info) => infos.push(info) });
  });
  after(() => llm.close());

  test("route by the table before RuvLTRA has come", async () => {
    assert.equal((await llm.stats()).encoder, "static");
    const decision = await llm.route(TASK);
    assert.equal(decision.agent, "tester");
    assert.equal(decision.encoder, "static");
    assert.equal(decision.action, "use");
    assert.ok(decision.confidence > 0.9, `confidence ${decision.confidence}`);
    assert.ok(decision.evidence.keywords.includes("tests"));
    assert.equal(decision.alternatives.length, 3);
    assert.equal((await llm.route(TASK, { top: 1 })).alternatives.length, 1);
    assert.equal((await llm.route(TASK)).cached, true);
  });

  test("progress counts every stage up to its total, and never back", () => {
    for (const stage of ["python", "packages", "static", "ready"]) {
      const steps = progress.filter((step) => step.stage === stage);
      assert.ok(steps.length > 0, stage);
      assert.equal(steps.at(-1).loaded, steps.at(-1).total, stage);
      for (const [i, step] of steps.entries()) assert.ok(i === 0 || step.loaded >= steps[i - 1].loaded, stage);
      const told = infos.filter((info) => info.file === stage).map((info) => info.status);
      assert.deepEqual([told[0], told.at(-1)], ["initiate", stage === "ready" ? "ready" : "done"], stage);
    }
  });

  test("RuvLTRA takes over for what the table is unsure of, and only then", async () => {
    let worst = 0;
    while ((await llm.stats()).encoder === "static") {
      const started = performance.now();
      await llm.route(`${UNSURE} ${started}`);
      worst = Math.max(worst, performance.now() - started);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.equal((await ruvltra(llm)).encoder, "cascade");
    const decision = await llm.route(UNSURE);
    assert.notEqual(decision.encoder, "static");
    assert.ok(decision.timings_us.encode_ruvltra > 0);
    assert.equal((await llm.route(`${TASK} please`)).encoder, "static");
    assert.equal(progress.at(-1).stage, "ruvltra");
    assert.equal(progress.at(-1).loaded, progress.at(-1).total);
    console.log(`longest route while RuvLTRA came: ${worst.toFixed(0)} ms`);
  });

  test("an imported file is exported again as it was", async () => {
    await llm.feedback(UNSURE, "tester");
    const bytes = await llm.export();
    const other = await RuvLLM.load({ encoder: "static" });
    try {
      await other.import(bytes);
      assert.deepEqual(await other.export(), bytes);
    } finally {
      await other.close();
    }
  });

  test("an encoder that there is not is refused", async () => {
    assert.equal((await rejected(RuvLLM.load({ encoder: "bert" }))).field, "encoder");
    for (const [field, value] of [["device", "npu"], ["dtype", "fp16"]]) {
      assert.equal((await rejected(RuvLLM.load({ [field]: value }))).field, field);
    }
  });
});

describe("agents of one's own", () => {
  test("objects; what cannot be used is told", async () => {
    const llm = await RuvLLM.load({ agents: [...agents, { name: "" }], encoder: "static" });
    try {
      assert.equal((await llm.route("the roses need pruning")).agent, "gardener");
      const { problems } = await llm.stats();
      assert.deepEqual(problems.map((problem) => problem.field.split(":")[0]), ["agents[2]"]);
      assert.equal((await llm.addAgents([{ name: "cook", description: "Cooks" }, { name: "driver" }])).agents, 3);
      const all = await llm.agents();
      assert.deepEqual(all.map((agent) => agent.name), ["gardener", "cook", "driver"]);
      assert.equal(all[1].description, "Cooks");
    } finally {
      await llm.close();
    }
  });

  test("files, whatever their paths look like", async () => {
    const bad = { path: "a/broken.md", text: "no front matter" };
    const files = [file("../../etc/one.md", "one"), file("C:\\x\\two.md", "two"), bad, file("again.md", "two")];
    const llm = await RuvLLM.load({ agents: files, encoder: "static" });
    try {
      const stats = await llm.stats();
      assert.equal(stats.agents, 2);
      assert.deepEqual(stats.problems.map((problem) => problem.field.split(":")[0]), ["a/broken.md", "again.md"]);
      assert.ok(stats.problems.every((problem) => !problem.message.includes("/tmp/")));
    } finally {
      await llm.close();
    }
  });

  test("none that can be used is an error of `load`", async () => {
    assert.equal((await rejected(RuvLLM.load({ agents: [] }))).field, "agents");
    assert.match((await rejected(RuvLLM.load({ agents: [{ name: "" }] }))).message, /no usable agent/);
    assert.equal((await rejected(RuvLLM.load({ baseURL: "/nowhere/at/all" }))).name, "ArtifactError");
  });

  test("RuvLTRA alone, from the first route on", async () => {
    const llm = await RuvLLM.load({ agents, encoder: "ruvltra", device: "webgpu", dtype: "q8" });
    try {
      const { device, device_note } = await llm.stats();
      assert.deepEqual([device, device_note], ["wasm", "this browser offers no GPU"]);
      assert.equal((await llm.route("cut the grass behind the house")).encoder, "ruvltra");
    } finally {
      await llm.close();
    }
  });
});

describe("what JavaScript may hand over", () => {
  const NOT = [null, undefined, 7, true, {}, [], Number.NaN, Infinity, 10n, Symbol("x"), () => 1];
  let llm;
  before(async () => (llm = await RuvLLM.load({ agents: null, encoder: "static", onProgress: null, reviewAfter: null })));
  after(() => llm.close());

  /** Every call with an argument that it must refuse. */
  const calls = (value) => ({
    route: () => llm.route(value),
    routeComplex: () => llm.routeComplex(value),
    embed: () => llm.embed([value]),
    feedback: () => llm.feedback(value, "tester"),
    "feedback's agent": () => llm.feedback("bake bread", value),
    undoFeedback: () => llm.undoFeedback(value === 7 ? 7.5 : value),
    addAgents: () => llm.addAgents(Array.isArray(value) ? {} : value),
    query: () => llm.query(value),
    rate: () => llm.rate(value, 5),
    decompose: () => llm.decompose(value),
    addMemory: () => llm.addMemory([value]),
    "addMemory's kind": () => llm.addMemory([{ text: "x", kind: value ?? 7 }]),
    searchMemory: () => llm.searchMemory(value),
    memoryGraph: () => llm.memoryGraph([value === 7 ? "7" : value]),
    bindMemories: () => llm.bindMemories([value, value]),
    unbindMemories: () => llm.unbindMemories(value === 7 ? 7.5 : value),
    linkMemory: () => llm.linkMemory(value, value, "Cites"),
    forgetMemory: () => llm.forgetMemory([value === 7 ? "7" : value]),
    setBackends: () => llm.setBackends([value, value]),
    select: () => llm.select(value),
    recordOutcome: () => llm.recordOutcome(value, {}),
    ask: () => llm.ask(value),
    import: () => llm.import(value),
  });

  test("what no call can take is refused in the words of JavaScript", async () => {
    for (const value of NOT) {
      for (const [name, call] of Object.entries(calls(value))) {
        const where = `${name}(${String(value)})`;
        const error = await call().then(() => assert.fail(`${where} was taken`), (reason) => reason);
        assert.ok(error instanceof RuvllmError, `${where}: ${error}`);
        const told = `${error.message} ${error.fix}`;
        assert.doesNotMatch(told, /Js(Null|Proxy|BigInt)|jsnull|NoneType|pyodide|shape \(|float32|ndarray|dict\b|positional|\.py\b|report this/, where);
        assert.ok(error.field && error.fix, `${where}: ${told}`);
      }
    }
  });

  test("null is the same as left out where it may be", async () => {
    assert.equal((await llm.route(TASK, { top: null })).alternatives.length, 3);
    assert.equal((await llm.route(TASK, null)).agent, "tester");
    assert.equal(await llm.feedback("bake bread for six", "tester", null), undefined);
    assert.deepEqual(await llm.searchMemory("bread", { k: null, collection: null, filter: null, hops: null }), []);
    assert.ok((await llm.query("bread?", { max_tokens: null })).request_id);
    assert.deepEqual(await llm.memories(null), []);
    await (await RuvLLM.load(null)).close();
    await (await openRouter(null)).close();
  });

  test("an unknown option is named with those that there are", async () => {
    const error = await rejected(llm.query("bread?", { maxTokens: 3 }));
    assert.deepEqual([error.field, error.fix], ["maxTokens", "use query, max_tokens, explain, agent_id, session_id"]);
    assert.match((await rejected(llm.addMemory([{ text: "x", qualty: 1 }]))).message, /^memories\[0\]\.qualty is unknown/);
  });

  test("half a character becomes a replacement character, wherever it is", async () => {
    await llm.feedback("paint the fence \ud83d", "tester");
    const { feedback } = await llm.feedbackList();
    assert.equal(feedback[0].text, "paint the fence \ufffd");
    const metadata = { "\ude00": ["\ud83d", "\ud83d\ude00"] };
    const [id] = await llm.addMemory([{ text: "a \ud83d\ude00 b\ude00", metadata }]);
    const [memory] = await llm.memories();
    assert.deepEqual([memory.id, memory.text, memory.metadata], [id, "a \u{1f600} b\ufffd", { "\ufffd": ["\ufffd", "\u{1f600}"] }]);
    await llm.addAgents([{ name: "fence-painter\ud800", description: "paint the garden fence" }]);
    assert.ok((await llm.agents()).some((agent) => agent.name.startsWith("fence-painter") && agent.name.isWellFormed()));
    assert.ok((await llm.export()).length > 0);
    await llm.resetAgents();
  });

  test("what is nested without an end ends no interpreter", async () => {
    let deep = {};
    for (let level = 0; level < 20_000; level++) deep = { deep };
    assert.match((await rejected(llm.addMemory([{ text: "x", metadata: deep }]))).message, /memories is nested too deeply/);
    assert.equal((await llm.route(TASK)).agent, "tester");
  });

  test("hints name what a page can do", async () => {
    assert.match((await rejected(llm.feedback(TASK, "nobody"))).fix, /^use architect, /);
    assert.equal((await llm.stats()).state, undefined);
  });

  test("a refused outcome does not stand in the way of an export", async () => {
    await rejected(llm.recordOutcome("none", { success: true }));
    assert.ok((await llm.export()).length > 0);
  });
});

test("what a page imports can be imported here, for pages that a server renders first", async () => {
  const names = (text) => [...text.matchAll(/export \{([^}]*)\};?\s*$/g)].flatMap(([, list]) => list.split(",").map((one) => one.split(" as ").pop().trim()));
  const here = await import("../dist/node.js");
  const page = names(readFileSync(new URL("../dist/ruvllm.js", import.meta.url), "utf8"));
  assert.ok(page.includes("RuvLLM"));
  assert.deepEqual(page.filter((name) => !(name in here)), []);
  assert.deepEqual([await RuvLLM.cache.list(), await RuvLLM.cache.delete()], [[], false]);
  const { state } = here.keepOffline({ baseURL: "https://shop.example/ruvllm/" });
  assert.equal(state.reason, "unsupported");
});

test("`new` names what to call, and errors keep their names", async () => {
  for (const [kind, fix] of [[RuvLLM, "await RuvLLM.load({ … })"], [LocalModel, "await LocalModel.load(model)"]]) {
    assert.throws(() => new kind({ encoder: "static" }), (error) => error instanceof RuvllmError && error.fix === fix);
  }
  const error = await rejected(LocalModel.load("models/x.gguf"));
  assert.equal(error.constructor.name, "RuvllmError");
  assert.equal(error.name, "ArtifactError");
  assert.match(error.stack, /^ArtifactError: x\.gguf has to be converted first/);
  assert.match(error.fix, /ruvllm models convert x\.gguf --out FOLDER/);
});

test("feedback is fitted once more when it has been quiet for a while", { timeout: 120_000 }, async () => {
  const llm = await RuvLLM.load({ agents, encoder: "static", reviewAfter: 5 });
  try {
    await llm.feedback("wax the surfboard", "cook");
    await llm.feedback("polish the surfboard", "cook");
    await reviewed(llm);
    assert.equal((await llm.route("wax my surfboard")).agent, "cook");
    const kept = await llm.export();
    await llm.import(kept);
    assert.equal((await llm.route("wax my surfboard")).agent, "cook");
  } finally {
    await llm.close();
  }
});

test("much feedback is reviewed in idle time without a query, once, wherever the state goes", { timeout: 300_000 }, async () => {
  const llm = await RuvLLM.load({ agents, encoder: "static", reviewAfter: 0 });
  const other = await RuvLLM.load({ agents, encoder: "static", reviewAfter: 0 });
  try {
    assert.equal((await jobOf(llm, "review")).last, null);
    for (let n = 0; n < 200; n++) await llm.feedback(`task number ${n} of the boat`, n % 2 ? "cook" : "gardener");
    while (!(await jobOf(llm, "review")).last) await new Promise((resolve) => setTimeout(resolve, 20));
    const review = await jobOf(llm, "review");
    assert.deepEqual([review.last.outcome, review.due], ["reviewed 200 feedbacks", false]);
    await other.import(await llm.export());
    const imported = await jobOf(other, "review");
    assert.deepEqual([imported.last, imported.due], [review.last, false]);
    while (!(await jobOf(other, "write")).last) await new Promise((resolve) => setTimeout(resolve, 20)); // it was idle, too
    assert.equal((await other.stats()).reviews, 0);
  } finally {
    await other.close();
    await llm.close();
  }
});
