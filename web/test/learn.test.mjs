// Pages that never met learn from each other through a server: node --test (after build/web.py).
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startServer } from "./server.mjs";

const { openRouter, RuvLLM, RuvllmError } = await import("../dist/node.js");
const KEY = "a-key-of-the-whole-team";
const agents = ["ada", "ben"].map((name) => ({ name, description: "A colleague of the workshop." }));
const LESSONS = ["open the hive", "feed the bees", "harvest honey", "catch the swarm", "smoke the hive", "move the bees"];
const backends = [{ name: "mini", cost: 0.001 }, { name: "maxi", cost: 0.03 }];

let server;
let taught;
let other;

before(async () => {
  server = await startServer({ RUVLLM_API_KEYS: KEY });
  [taught, other] = await Promise.all([1, 2].map(() => RuvLLM.load({ agents, encoder: "static", state: "memory" })));
});
after(async () => {
  await taught?.close();
  await other?.close();
  await server?.stop();
});

const rejected = (promise) => promise.then(() => assert.fail("nothing was thrown"), (reason) => reason);

test("what one page was taught moves another's decisions and choices, and no text travels", async () => {
  for (const lesson of LESSONS) await taught.feedback(lesson, "ben");
  await taught.setBackends(backends);
  for (let n = 0; n < 24; n++) {
    const { choice_id, backend } = await taught.select(`prove theorem ${n} of topology`, n % 2 ? { max_cost: 0.01 } : { min_quality: 0 });
    await taught.recordOutcome(choice_id, { success: backend === "maxi" });
  }
  const sent = await taught.learn.push(server.url, { key: KEY });
  assert.deepEqual([sent.texts, sent.updates, sent.outcomes > 5], [6, 1, true]);
  assert.equal((await taught.learn.push(server.url, { key: KEY })).updates, 0);

  await other.setBackends(backends);
  const before = await other.select("prove theorem 70 of topology");
  const came = await other.learn.pull(server.url, { key: KEY });
  assert.deepEqual([came.agents, came.changed], [["ben"], true]);
  assert.ok(came.models.includes("mini"));
  const found = await other.route("feed the bees at the hive");
  assert.deepEqual([found.agent, found.action === "use"], ["ben", false]);
  const later = await other.select("prove theorem 70 of topology");
  assert.ok(later.quality < before.quality - 0.2 || later.backend !== before.backend);
  assert.equal(await other.learn.undo(), true);
  assert.equal(await other.learn.undo(), false);

  const hub = openRouter({ endpoint: server.url, headers: { authorization: `Bearer ${KEY}` } });
  const router = await hub;
  assert.equal((await router.learn.stats()).texts, 6);
  const model = await router.learn.pull();
  assert.ok(model.length > 1000 && !new TextDecoder("latin1").decode(model).includes("honey"));
  assert.equal((await rejected(router.learn.push(new Uint8Array(9)))).constructor, RuvllmError);
});

test("without the server, or its key, everything goes on", async () => {
  for (const [url, key, words] of [["http://127.0.0.1:9", "", /cannot be reached/], [server.url, "none", /answered 40[13]/], ["", "", /./]]) {
    const error = await rejected(taught.learn.push(url, { key, everything: true }));
    assert.ok(error instanceof RuvllmError, String(error));
    assert.match(error.message, words);
    assert.ok(error.field && error.fix);
  }
  assert.equal((await taught.route("harvest honey")).agent, "ben");
  assert.equal((await taught.learn.push(server.url, { key: KEY })).texts, 6); // what was on its way
});
