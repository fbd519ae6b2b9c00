/** Agentic QE's and AgentDB's names over a server that says what a test tells it to. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

const dist = new URL(process.env.RUVLLM_DIST ?? "../dist/", import.meta.url);
const { AQEMemoryManager, CoverageAnalyzerAgent, DefectPredictorAgent, HybridLLMProvider, LocalLLMProvider, TestGeneratorAgent } =
  await import(new URL("aqe.js", dist));
const { IntelligentQueryRouter, LLMOrchestrator, LLMRouter } = await import(new URL("agentdb.js", dist));

const CODE = "function add(a, b) {\n  return a + b;\n}\n";

/** A server that answers queries with these texts, and remembers what it is told. */
async function serving(texts, work) {
  const told = [];
  const memories = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const part of request) text += part;
    const body = JSON.parse(text || "{}");
    told.push([request.url, body]);
    const answers = {
      "/v1/query": () => ({
        request_id: `req-${told.length}`, text: texts.shift() ?? "", confidence: body.force_model === "small" ? 0.4 : 0.9, cost: 0.5,
        tier: body.force_model === "large" ? 3 : 2, latency: { total: 2000 }, session_id: body.session_id ?? null,
        routing: { model: `${body.force_model}-1` },
      }),
      "/v1/feedback": () => ({ learnt: true }),
      "/v1/memory": () => ({ ids: body.memories.map((one) => memories.push(one)) }),
      "/v1/memory/search": () => ({ memories: memories.filter((one) => one.collection === body.collection) }),
    };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answers[request.url]?.() ?? {}));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await work(`http://127.0.0.1:${server.address().port}`, (path) => told.filter(([url]) => url === path).map(([, body]) => body));
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

test("a validator teaches, and the next attempt is told what was wrong", async () => {
  await serving(["forty-two", "42"], async (url, told) => {
    const verdicts = ["it is no number", 0.75];
    const found = await new HybridLLMProvider(url).completeWithFeedback("6 times 7?", () => verdicts.shift(), { sessionId: "s" });
    assert.equal(found.text, "42");
    assert.deepEqual([found.metadata.attempts, found.metadata.valid, found.metadata.sessionId], [2, true, "s"]);
    const [first, second] = told("/v1/query");
    assert.deepEqual([first.force_model, second.force_model], ["small", "large"]);
    assert.match(second.query, /it is no number[^]*forty-two/);
    assert.deepEqual(told("/v1/feedback").map((one) => [one.rating, one.task_success]), [[1, false], [4, true]]);
  });
});

test("the large tier is asked where the small one is unsure", async () => {
  await serving(["maybe", "yes"], async (url) => {
    const found = await new HybridLLMProvider(url).complete("sure?");
    assert.deepEqual([found.text, found.metadata.cost, found.metadata.latency], ["yes", 1, 2]);
  });
  await serving(["maybe"], async (url) => assert.equal((await new LocalLLMProvider(url).complete("sure?")).text, "maybe"));
  assert.throws(() => new LocalLLMProvider("http://x", { attempts: 0 }), { name: "InputError", field: "attempts" });
});

test("agents check, remember, and are given what was right", async () => {
  await serving(["no tests", "```js\ntest('add', () => expect(add(1, 2)).toBe(3))\n```"], async (url, told) => {
    const memory = new AQEMemoryManager(url);
    const agent = new TestGeneratorAgent(new LocalLLMProvider(url), memory);
    assert.equal((await agent.generate(CODE)).text, "test('add', () => expect(add(1, 2)).toBe(3))");
    const [hit] = await memory.retrieveKnowledge("test-generator", "tests of add");
    assert.match(hit.text, /expect\(add/);
    await agent.generate(CODE);
    assert.match(told("/v1/query")[2].query, /What was right before/);
  });
  await serving(["- add(1, 2)", 'Here: {"risk": 0.2, "reasons": ["none checked"]}'], async (url) => {
    const provider = new LocalLLMProvider(url);
    const report = await new CoverageAnalyzerAgent(provider).analyze(CODE, [2]);
    assert.deepEqual([report.coverage.toFixed(2), report.suggestions], ["0.67", ["add(1, 2)"]]);
    const { risk, reasons } = await new DefectPredictorAgent(provider).predict(CODE);
    assert.deepEqual([risk, reasons], [0.2, ["none checked"]]);
  });
});

test("the soonest search is asked", async () => {
  const router = new IntelligentQueryRouter(["slow", "fast"], () => 0.5);
  router.recordLatency("slow", 9);
  assert.equal(router.route(), "fast");
  router.recordLatency("fast", 1);
  assert.equal(router.route(), "fast");
  assert.throws(() => router.recordLatency("x", 1), { field: "backend" });
  await serving(["4"], async (url, told) => {
    const search = new LLMRouter(url, { backends: { one: async (query, k) => [query, k], two: async (query, k) => [query, k] } });
    assert.deepEqual(await search.intelligentSearch("release day", 2), ["release day", 2]);
    assert.deepEqual(await new LLMRouter(url).intelligentSearch("release day", 2), []);
    const orchestrator = new LLMOrchestrator(url);
    await orchestrator.recordOutcome(await orchestrator.complete("2 + 2?", { maxCost: 0.1 }), true);
    assert.equal(told("/v1/query")[0].max_cost, 0.1);
    assert.deepEqual(told("/v1/feedback")[0].rating, 5);
  });
});
