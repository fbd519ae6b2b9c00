// What every router does, in this process and at an edge server alike: node --test (after build/web.py).
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startServer } from "./server.mjs";

const { HttpRouter, openRouter, RlmController, RuvLLM, RuvllmError } = await import("../dist/node.js");

const TASK = "add unit tests for the auth module";
const UNSURE = "water the plants while I am on holiday";
const ROSES = "prune the roses behind the house";
const GARDENER = { name: "gardener", description: "Looks after plants, gardens and lawns", examples: ["prune the roses"] };
const TESTER = { name: "tester", description: "Tastes soups and cakes", keywords: ["soup"], tier: 1, model: "haiku" };
const all = async (events) => {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
};
const file = (path, name) => ({ path, text: `---\nname: ${name}\ndescription: ${name} things\n---\nYou are ${name}.\n` });

/** The RuvllmError of a promise that must reject; a Pyodide error is never shown whole, it has a megabyte. */
async function rejected(promise) {
  const error = await promise.then(() => assert.fail("nothing was thrown"), (reason) => reason);
  assert.ok(error instanceof RuvllmError, String(error?.message).slice(0, 300));
  assert.ok(error.message && error.field && error.fix, JSON.stringify(error));
  return error;
}

/** A router that knows nothing yet, with its end. */
const HOSTS = {
  async local() {
    const router = await openRouter({ encoder: "static" });
    return { router, end: () => router.close() };
  },
  async endpoint() {
    const { url, stop } = await startServer({ RUVLLM_MAX_STATE: String(32 << 20) });
    const router = await openRouter({ endpoint: url });
    return { router, end: () => router.close().then(stop) };
  },
};

for (const [host, open] of Object.entries(HOSTS)) describe(host, () => suite(open));

function suite(open) {
  let llm;
  let end;
  let builtIn;
  before(async () => {
    ({ router: llm, end } = await open());
    builtIn = await llm.agents();
  });
  after(() => end());

  /** A second one of the kind, for as long as the work takes. */
  async function another(work) {
    const { router, end } = await open();
    try {
      await work(router);
    } finally {
      await end();
    }
  }

  test("memories are added, found, joined, looked around and forgotten; answers rated; conversations begun and ended", async () => {
    await another(async (fresh) => {
      const ids = await fresh.addMemory([{ text: "Ada owns billing." }, { text: "Staging is emptied on Mondays." }]);
      const [found] = await fresh.searchMemory("who owns billing?", { k: 1 });
      assert.deepEqual([found.text, found.id], ["Ada owns billing.", ids[0]]);
      assert.deepEqual((await fresh.memoryTimeline(ids[0])).map((one) => one.text), ["Ada owns billing."]);
      assert.equal(await fresh.reopenMemory(ids), 0);
      const edge = await fresh.bindMemories(ids);
      const graph = await fresh.memoryGraph([ids[0]]);
      assert.deepEqual(graph.hyperedges.map((one) => one.members.toSorted()), [ids.toSorted()]);
      assert.deepEqual([await fresh.unbindMemories(edge), await fresh.unbindMemories(edge)], [true, false]);

      const id = await fresh.newSession({ of: "a test" });
      const answer = await fresh.query("Who owns billing?", { session_id: id });
      assert.match(answer.text, /Ada/);
      assert.equal(answer.session_id, id);
      const { history, metadata } = await fresh.session(id);
      assert.deepEqual([history.length, metadata], [2, { of: "a test" }]);
      assert.equal((await fresh.rate(answer.request_id, 5)).agent, "");
      assert.deepEqual([await fresh.endSession(id), await fresh.endSession(id)], [true, false]);
      assert.equal((await rejected(fresh.session(id))).name, "InputError");
      assert.ok(Array.isArray(await fresh.patterns(3)));

      assert.equal(await fresh.forgetMemory([ids[1]]), 1);
      assert.equal((await fresh.searchMemory("staging")).some((one) => one.id === ids[1]), false);
    });
  });

  test("memories are listed, chained and linked; queries are taken apart; what could be better about agents is said", async () => {
    await another(async (fresh) => {
      const ids = await fresh.addMemory([{ text: "Ada owns billing." }, { text: "Bo owns search." }], { chain: true });
      assert.deepEqual((await fresh.memories(9)).map(({ id, text, said, until }) => [id, text, said, until]), [[ids[1], "Bo owns search.", 1, null], [ids[0], "Ada owns billing.", 1, null]]);
      await fresh.linkMemory(ids[0], ids[1], "Cites", 0.5);
      const { edges } = await fresh.memoryGraph([ids[0]]);
      assert.deepEqual(edges.map(({ source, kind, weight }) => [source, kind, weight]).toSorted(), [[ids[0], "Cites", 0.5], [ids[1], "Follows", 1]]);
      assert.ok(await rejected(fresh.linkMemory(ids[0], 999, "Cites")));
      const stats = await fresh.memoryStats();
      assert.deepEqual([stats.collections, stats.edges, stats.vectors], [{ default: 2 }, 2, 2]);
      const plan = await fresh.decompose("Who owns billing and who owns search?");
      assert.deepEqual([plan.split, plan.parts.length, typeof plan.parts[0].decision.agent], [true, 2, "string"]);
      await fresh.addAgents([{ name: "blank" }]);
      assert.deepEqual((await fresh.lint()).filter(({ kind }) => kind === "empty").map(({ agents }) => agents), [["blank"]]);
    });
  });

  test("feedback is listed and taken back, and says how far confidences hold; patterns and jobs at once", async () => {
    await another(async (fresh) => {
      const before = await fresh.route(UNSURE);
      await fresh.feedback(UNSURE, "documenter");
      const { feedback, total } = await fresh.feedbackList(5);
      assert.deepEqual([total, feedback[0].text, feedback[0].agent, feedback[0].right], [1, UNSURE, "documenter", true]);
      const { decisions, bins } = await fresh.reliability();
      assert.deepEqual([decisions, bins[0].count, bins[0].from <= before.confidence], [1, 1, true]);
      assert.deepEqual([await fresh.undoFeedback(feedback[0].id), await fresh.undoFeedback(feedback[0].id)], [true, false]);
      assert.equal((await fresh.feedbackList()).total, 0);
      assert.equal((await fresh.route(UNSURE)).agent, before.agent);
      assert.ok(Array.isArray(await fresh.learnPatterns()));
      assert.ok((await fresh.runJobs(0.1)).every(({ name }) => typeof name === "string"));
    });
  });

  test("LLMs are named, chosen and told how they did", async () => {
    await another(async (fresh) => {
      assert.equal((await rejected(fresh.backendStats())).field, "backends");
      const llms = [{ name: "small", cost: 0.0001 }, { name: "large", cost: 0.004, quality: 0.95 }];
      assert.deepEqual((await fresh.setBackends(llms)).profiles.map(({ name }) => name), ["small", "large"]);
      const choice = await fresh.select("prove the theorem", { max_cost: 0.001 });
      assert.equal(choice.backend, "small");
      assert.equal((await fresh.recordOutcome(choice.choice_id, { quality: 0.9 })).answers, 1);
      assert.equal((await rejected(fresh.recordOutcome(choice.choice_id, {}))).field, "choice_id");
      assert.equal((await fresh.backendStats()).answers, 1);
    });
  });

  test("recursive answering: its steps as they come, from memory and from a text, within limits, and again from its store", async () => {
    await another(async (fresh) => {
      const rlm = new RlmController(fresh, { maxDepth: 2, topK: 3 });
      await rlm.addMemory("Staging is reset on Mondays.");
      const asked = "When is staging reset and who is the keeper of the lighthouse?";
      const heard = await all(rlm.queryStream(asked, { context: "The keeper of the lighthouse is Mia Stone." }));
      const { answer } = heard.at(-1);
      assert.match(answer.text, /Mondays.*Mia Stone/s);
      assert.deepEqual([heard[0].type, heard.filter(({ type }) => type === "answered").length], ["planned", 2]);
      const again = await rlm.query(asked, { context: "The keeper of the lighthouse is Mia Stone." });
      assert.deepEqual([again.cached, rlm.getCacheStats().hits, rlm.getConfig().maxDepth], [true, 1, 2]);
      assert.equal((await rlm.searchMemory("staging"))[0].text, "Staging is reset on Mondays.");
      for await (const event of rlm.queryStream(`${asked} Why?`)) if (event.type === "planned") break; // and it goes on
      rlm.updateConfig({ topK: 0 });
      await rejected(rlm.query("When is staging reset?"));
      await assert.rejects(all(rlm.queryStream(" ")), RuvllmError);
    });
  });

  test("who stops waiting is told why, and the router goes on", async () => {
    const given = new AbortController();
    given.abort(new Error("changed my mind"));
    await assert.rejects(llm.route(TASK, { signal: given.signal }), /changed my mind/);
    const later = new AbortController();
    const asked = llm.query(TASK, { signal: later.signal });
    later.abort(new Error("not now"));
    await assert.rejects(asked, /not now/);
    assert.equal((await llm.route(TASK, { signal: new AbortController().signal })).agent, "tester");
  });

  test("a task gets an agent, a tier and the reasons", async () => {
    const decision = await llm.route(TASK);
    assert.equal(decision.agent, "tester");
    assert.equal(decision.encoder, "static");
    assert.equal(decision.action, "use");
    assert.ok(decision.confidence > 0.9, `confidence ${decision.confidence}`);
    assert.ok([1, 2, 3].includes(decision.tier));
    assert.ok(decision.evidence.keywords.includes("tests"));
    assert.ok(Object.values(decision.timings_us).every((time) => time >= 0));
    assert.equal(decision.alternatives.length, 3);
    assert.equal((await llm.route(TASK, { top: 1 })).alternatives.length, 1);
    assert.equal((await llm.route(TASK)).cached, true);
  });

  test("embed gives unit rows that mean something", async () => {
    const { dim, data } = await llm.embed(["a cat sat", "a cat was sitting", "the stock market fell"]);
    assert.ok(data instanceof Float32Array);
    assert.equal(data.length, 3 * dim);
    const dot = (a, b) => data.subarray(a * dim, a * dim + dim).reduce((sum, x, i) => sum + x * data[b * dim + i], 0);
    assert.ok(Math.abs(dot(0, 0) - 1) < 1e-4);
    assert.ok(dot(0, 1) > dot(0, 2) + 0.3);
  });

  test("teams for a compound task", async () => {
    const team = await llm.routeComplex("write the code, then test it, then document it");
    assert.ok(team.members.length >= 2);
    assert.ok(team.members.every((member) => member.agent && member.role && member.task));
  });

  test("a complex query is answered part by part, and the parts are heard before the whole", async () => {
    const heard = [];
    const answer = await llm.queryDeep("When is staging reset and when is production backed up?", { onEvent: (event) => heard.push(event) });
    assert.equal(answer.findings.length, 2);
    assert.deepEqual(heard.filter(({ type }) => type === "answered").map(({ finding }) => finding.query).sort(), answer.findings.map(({ query }) => query).sort());
    assert.equal(heard[0].type, "planned");
    assert.deepEqual(heard[0].plan.parts.map(({ text }) => text), answer.findings.map(({ query }) => query));
    assert.ok(answer.text);
    await rejected(llm.queryDeep(" "));
  });

  test("typed questions are answered, and taught; export and import carry it", async () => {
    const state = { message: "The oven burnt all the bread again." };
    const criteria = { billing: "Payments, invoices, refunds", bakery: "Bread, cakes and ovens" };
    const questions = {
      team: { type: "choice", instructions: "Which team?", criteria },
      urgent: { type: "noul", instructions: "Is it urgent?" },
      anger: { type: "score", instructions: "How angry?", criteria: ["calm", "angry"] },
    };
    await another(async (taught) => {
      const { id, model, answers } = await taught.decide(state, questions);
      assert.equal(model, "static");
      assert.equal(answers.team.choice, "bakery");
      assert.ok(answers.urgent.noul >= 0 && answers.urgent.noul <= 1);
      assert.deepEqual(answers.anger.legend, { 0: "calm", 1: "angry" });
      assert.deepEqual(await taught.feedbackDecision(id, { team: "billing", urgent: true }), { team: 1, urgent: 1 });
      assert.equal((await taught.decide(state, questions)).answers.team.choice, "billing");
      await another(async (other) => {
        await other.import(await taught.export());
        assert.equal((await other.decide(state, questions)).answers.team.choice, "billing");
      });
      assert.equal((await rejected(taught.decide("", questions))).field, "state");
      assert.equal((await rejected(taught.decide(state, { a: { type: "box" } }))).field, "questions.a.type");
      assert.equal((await rejected(taught.feedbackDecision("dec-1", true))).field, "request_id");
    });
  });

  test("feedback changes a later decision; export and import carry it", async () => {
    const taught = (await llm.route(UNSURE)).agent === "tester" ? "documenter" : "tester";
    for (let i = 0; i < 3; i++) await llm.feedback(UNSURE, taught);
    assert.equal((await llm.route(UNSURE)).agent, taught);
    const bytes = await llm.export();
    assert.equal(new TextDecoder().decode(bytes.subarray(0, 15)), "SQLite format 3");
    await another(async (other) => {
      await other.import(bytes);
      assert.equal((await other.stats()).feedback, 3);
      assert.equal((await other.route(UNSURE)).agent, taught);
      await llm.import(await other.export());
    });
    assert.equal((await llm.stats()).feedback, 3);
    assert.equal((await llm.route(UNSURE)).agent, taught);
  });

  test("a file that is no state, or a damaged one, replaces nothing", async () => {
    const held = (await llm.stats()).feedback;
    const { agent } = await llm.route(UNSURE);
    const bytes = await llm.export();
    const cut = bytes.slice(0, bytes.length >> 1);
    const noise = bytes.map((byte, i) => (i > 100 && i < 6000 ? byte ^ 0x5a : byte));
    for (const bad of [new Uint8Array(0), new TextEncoder().encode("hello"), cut, noise]) {
      const error = await rejected(llm.import(bad));
      assert.equal(error.name, "StoreError");
      assert.equal(error.field, "state");
      assert.equal((await llm.stats()).feedback, held);
    }
    assert.equal((await llm.route(UNSURE)).agent, agent);
  });

  test("what cannot be routed or learnt is told by field and fix", async () => {
    for (const text of ["", " \n", undefined, null, 7, {}]) {
      assert.equal((await rejected(llm.route(text))).field, "text");
    }
    assert.equal((await rejected(llm.route(""))).name, "InputError");
    assert.equal((await rejected(llm.feedback(TASK, "nobody"))).field, "agent");
    assert.equal((await rejected(llm.feedback(TASK, "tester", 0))).field, "weight");
    const cycle = [];
    cycle.push(cycle);
    assert.equal((await rejected(llm.embed(cycle))).field, "texts");
    assert.equal((await rejected(llm.addAgents(undefined))).field, "agents");
    assert.equal((await rejected(llm.addAgents("tester"))).field, "agents");
    assert.equal((await rejected(llm.import(undefined))).field, "state");
    assert.equal((await llm.route("\ud800 add tests \u0000 for <b>auth</b>")).agent, "tester");
  });

  test("agents as objects are added, take the place of those of the same name, and go again", async () => {
    const mended = [GARDENER, { name: "" }, { name: "x", tier: 9 }, TESTER];
    const added = await llm.addAgents(mended);
    assert.equal(added.agents, builtIn.length + 2); // a tier that there is not costs that field
    assert.deepEqual(added.problems.map((problem) => problem.field.split(":")[0]), ["agents[1]", "agents[2]"]);
    assert.ok(added.problems.every((problem) => problem.message && problem.fix));
    const agents = await llm.agents();
    assert.equal(agents[builtIn.findIndex((agent) => agent.name === "tester")].description, TESTER.description);
    assert.equal((await llm.stats()).own_agents, 3);
    assert.equal((await llm.route(ROSES)).agent, "gardener");
    assert.equal((await llm.resetAgents()).agents, builtIn.length);
    assert.deepEqual(await llm.agents(), builtIn);
    assert.notEqual((await llm.route(ROSES)).agent, "gardener");
  });

  test("agents as files are added, whatever their paths look like", async () => {
    const bad = { path: "a/broken.md", text: "no front matter" };
    const files = [file("../../etc/one.md", "one"), file("C:\\x\\two.md", "two"), bad, file("again.md", "two")];
    const added = await llm.addAgents(files);
    assert.equal(added.agents, builtIn.length + 2);
    assert.deepEqual(added.problems.map((problem) => problem.field.split(":")[0]), ["a/broken.md", "again.md"]);
    const sources = (await llm.agents()).slice(-2).map((agent) => agent.source);
    assert.deepEqual(sources, ["../../etc/one.md", "C:\\x\\two.md"]);
    await llm.resetAgents();
  });

  test("YAML is read as on any other host", async () => {
    const routes = "routes:\n- name: 404\n  utterances: [2024, the page is gone]\n";
    const front = "---\ndescription: &a keeps ponds # fish\ntools: [\n  Read, # c\n  Edit]\n---\n";
    const added = await llm.addAgents([{ path: "routes.yaml", text: routes }, { path: "koi/SKILL.md", text: front }]);
    assert.equal(added.agents, builtIn.length + 2);
    const [gone, koi] = (await llm.agents()).slice(-2);
    assert.deepEqual([gone.name, gone.examples], ["404", ["2024", "the page is gone"]]);
    assert.deepEqual([koi.name, koi.description, koi.tools], ["koi", "keeps ponds", ["Read", "Edit"]]);
    await llm.resetAgents();
  });

  test("added agents travel in the exported file, in their order and whole; lessons for them wait", async () => {
    await another(async (first) => {
      const plain = await first.export();
      await first.addAgents([GARDENER]);
      await first.addAgents([TESTER]);
      await first.feedback("water the ferns", "gardener");
      const bytes = await first.export();
      await another(async (other) => {
        await other.import(bytes);
        assert.deepEqual(await other.agents(), await first.agents());
        assert.equal((await other.route(ROSES)).agent, "gardener");
        assert.equal((await other.stats()).feedback, 1);
        await other.import(plain); // which says nothing of agents
        assert.equal((await other.stats()).own_agents, 2);
        assert.equal((await other.stats()).feedback, 0);
        await other.resetAgents();
        const empty = await other.export();
        await other.import(bytes);
        await other.import(empty);
        assert.deepEqual(await other.agents(), builtIn);
        const text = Buffer.from(bytes).toString("latin1").replace('"name": "gardener"', '"mane": "gardener"');
        const error = await rejected(other.import(new Uint8Array(Buffer.from(text, "latin1"))));
        assert.equal(error.name, "StoreError");
        assert.deepEqual(await other.agents(), builtIn);
      });
    });
  });

  test("once closed it says so", async () => {
    await another(async (other) => {
      await other.close();
      const error = await rejected(other.route(TASK));
      assert.deepEqual([error.name, error.field], ["ClosedError", "close"]);
    });
  });
}

test("a router at an endpoint has every method of one here", () => {
  const methods = (of) => (of === Object.prototype ? [] : [...methods(Object.getPrototypeOf(of)), ...Reflect.ownKeys(of)]);
  const here = new Set(methods(RuvLLM.prototype).filter((name) => name !== "ask"));
  assert.deepEqual([...here].filter((name) => !(name in HttpRouter.prototype)), []);
});

describe("an endpoint", () => {
  test("that is none is told when it is opened", async () => {
    assert.equal((await rejected(openRouter({ endpoint: "ftp://example.com" }))).field, "endpoint");
    assert.equal((await rejected(openRouter({ endpoint: "no address" }))).field, "endpoint");
    assert.equal((await rejected(openRouter({ endpoint: "http://127.0.0.1:9", timeout: 60_000 }))).field, "endpoint");
  });

  test("keeps its state to itself unless it is told otherwise, and wants its key", async () => {
    const { url, stop } = await startServer({ RUVLLM_API_KEYS: "open-sesame-0123456789" });
    try {
      assert.equal((await rejected(openRouter({ endpoint: url }))).field, "authorization");
      const headers = { authorization: "Bearer open-sesame-0123456789" };
      const router = await openRouter({ endpoint: new URL("v1", url), headers });
      assert.equal((await router.route(TASK)).agent, "tester");
      assert.match((await rejected(router.export())).fix, /RUVLLM_MAX_STATE/);
      assert.match((await rejected(router.import(new Uint8Array(9)))).fix, /RUVLLM_MAX_STATE/);
      assert.equal((await router.addAgents([GARDENER])).kept, true);
      await router.close();
    } finally {
      await stop();
    }
  });
});
