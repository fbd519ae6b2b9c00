// Agents that were added to the built-in ones: node --test (after build/web.py).
import assert from "node:assert/strict";
import { test } from "node:test";

const { RuvLLM } = await import("../dist/node.js");

const GARDENER = { name: "gardener", description: "Looks after plants, gardens and lawns", examples: ["prune the roses"] };
const TESTER = { name: "tester", description: "Tastes soups and cakes", keywords: ["soup"], tier: 1, model: "haiku" };

test("Node keeps added agents for no later visit", async () => {
  const llm = await RuvLLM.load({ encoder: "static" });
  try {
    assert.equal((await llm.addAgents([GARDENER])).kept, false);
  } finally {
    await llm.close();
  }
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

test("stats never call RuvLTRA ready while the word table answers alone", async () => {
  const llm = await RuvLLM.load({ agents: [GARDENER, { name: "cook", examples: ["make a soup"] }] });
  try {
    const seen = new Set();
    for (let added = 0; ; ) {
      const { ruvltra, encoder } = await llm.stats();
      assert.ok(["loading", "warming", "ready"].includes(ruvltra), ruvltra);
      assert.equal(ruvltra === "ready", encoder === "cascade", `${ruvltra}, ${encoder}`);
      seen.add(`${added} ${ruvltra}`);
      if (ruvltra === "loading" || added > 2) {
        if (ruvltra === "ready") break;
      } else {
        await llm.addAgents([{ name: `agent-${added++}`, description: "Drives lorries", examples: ["deliver the parcels"] }]);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.ok(seen.has("1 warming"), [...seen].join());
  } finally {
    await llm.close();
  }
  const alone = await RuvLLM.load({ agents: [GARDENER, { name: "cook" }], encoder: "ruvltra" });
  assert.equal((await alone.stats()).ruvltra, "ready");
  await alone.close();
});
