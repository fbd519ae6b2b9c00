// Agents that were added to the built-in ones: node --test (after build/web.py).
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

const { RuvLLM, RuvllmError } = await import("../dist/node.js");

const GARDENER = { name: "gardener", description: "Looks after plants, gardens and lawns", examples: ["prune the roses"] };
const TESTER = { name: "tester", description: "Tastes soups and cakes", keywords: ["soup"], tier: 1, model: "haiku" };
const ROSES = "prune the roses behind the house";

describe("agents added to the built-in ones", () => {
  let llm;
  let builtIn;
  let plain;
  let bytes;
  before(async () => {
    llm = await RuvLLM.load({ encoder: "static" });
    builtIn = await llm.agents();
    await llm.feedback("polish the copper kettle", "documenter");
    plain = await llm.export();
    await llm.addAgents([GARDENER]);
    await llm.addAgents([TESTER]);
    await llm.feedback("water the ferns", "gardener");
    bytes = await llm.export();
  });
  after(() => llm.close());

  test("take the place of those of the same name; Node keeps nothing for later", async () => {
    const agents = await llm.agents();
    assert.equal(agents.length, builtIn.length + 1);
    const at = builtIn.findIndex((agent) => agent.name === "tester");
    assert.equal(agents[at].description, TESTER.description);
    assert.equal((await llm.stats()).own_agents, 2);
    assert.equal((await llm.addAgents([GARDENER])).kept, false);
  });

  test("travel in the exported file, in their order and whole", async () => {
    const other = await RuvLLM.load({ encoder: "static" });
    try {
      await other.import(bytes);
      assert.deepEqual(await other.agents(), await llm.agents());
      assert.equal((await other.route(ROSES)).agent, "gardener");
      assert.equal((await other.stats()).feedback, 2);
      assert.deepEqual(await other.export(), bytes);
    } finally {
      await other.close();
    }
  });

  test("stay when a file is imported that says nothing of agents, and are in the next export", async () => {
    const other = await RuvLLM.load({ encoder: "static" });
    try {
      await other.addAgents([GARDENER]);
      await other.import(plain);
      assert.equal((await other.stats()).own_agents, 1);
      assert.equal((await other.stats()).feedback, 1);
      assert.equal((await other.route(ROSES)).agent, "gardener");
      const third = await RuvLLM.load({ encoder: "static" });
      await third.import(await other.export());
      assert.equal((await third.route(ROSES)).agent, "gardener");
      await third.close();
    } finally {
      await other.close();
    }
  });

  test("are gone after a reset, in later exports too, and their lessons wait for them", async () => {
    const other = await RuvLLM.load({ encoder: "static" });
    try {
      await other.import(bytes);
      assert.equal((await other.resetAgents()).agents, builtIn.length);
      assert.deepEqual(await other.agents(), builtIn);
      assert.notEqual((await other.route(ROSES)).agent, "gardener");
      assert.equal((await other.stats()).feedback, 1);
      const empty = await other.export();
      await other.import(bytes);
      assert.equal((await other.stats()).feedback, 2);
      await other.import(empty);
      assert.deepEqual(await other.agents(), builtIn);
    } finally {
      await other.close();
    }
  });

  test("that are damaged in a file replace nothing", async () => {
    const text = Buffer.from(bytes).toString("latin1").replace('"name": "gardener"', '"mane": "gardener"');
    const error = await llm.import(new Uint8Array(Buffer.from(text, "latin1"))).then(
      () => assert.fail("nothing was thrown"),
      (reason) => reason,
    );
    assert.ok(error instanceof RuvllmError, String(error.message).slice(0, 300));
    assert.equal(error.name, "StoreError");
    assert.equal((await llm.stats()).own_agents, 2);
    assert.equal((await llm.route(ROSES)).agent, "gardener");
  });
});

test("a page that names its agents keeps them its own: an import does not change them", async () => {
  const first = await RuvLLM.load({ encoder: "static" });
  await first.addAgents([TESTER]);
  const bytes = await first.export();
  await first.close();
  const llm = await RuvLLM.load({ agents: [GARDENER, { name: "cook" }], encoder: "static" });
  try {
    await llm.addAgents([{ name: "driver" }]);
    await llm.import(bytes);
    assert.deepEqual((await llm.agents()).map((agent) => agent.name), ["gardener", "cook", "driver"]);
    await llm.resetAgents();
    assert.deepEqual((await llm.agents()).map((agent) => agent.name), ["gardener", "cook"]);
  } finally {
    await llm.close();
  }
});

test("stats never call MiniLM ready while the word table answers alone", async () => {
  const llm = await RuvLLM.load({ agents: [GARDENER, { name: "cook", examples: ["make a soup"] }] });
  try {
    const seen = new Set();
    for (let added = 0; ; ) {
      const { minilm, encoder } = await llm.stats();
      assert.ok(["loading", "warming", "ready"].includes(minilm), minilm);
      assert.equal(minilm === "ready", encoder === "cascade", `${minilm}, ${encoder}`);
      seen.add(`${added} ${minilm}`);
      if (minilm === "loading" || added > 2) {
        if (minilm === "ready") break;
      } else {
        await llm.addAgents([{ name: `agent-${added++}`, description: "Drives lorries", examples: ["deliver the parcels"] }]);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.ok(seen.has("1 warming"), [...seen].join());
  } finally {
    await llm.close();
  }
  const alone = await RuvLLM.load({ agents: [GARDENER, { name: "cook" }], encoder: "minilm" });
  assert.equal((await alone.stats()).minilm, "ready");
  await alone.close();
});
