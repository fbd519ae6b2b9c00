// OpenAI's and Anthropic's own clients for npm against a real server with an LLM behind it: node --test.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { startLlm } from "./llm.mjs";
import { startServer } from "./server.mjs";

const KEY = "a-key-of-this-test-0123456789";
const SAY = "write three short words";

let llm;
let server;
before(async () => {
  llm = await startLlm();
  const backend = { KIND: "openai", URL: llm.url, MODEL: "word-1", RETRIES: "0" };
  const named = Object.entries(backend).map(([name, value]) => [`RUVLLM_INFERENCE_SMALL_${name}`, value]);
  server = await startServer({ RUVLLM_API_KEYS: KEY, ...Object.fromEntries(named) });
});
after(async () => {
  await server?.stop();
  await llm?.stop();
});

async function rejected(promise, type) {
  const error = await promise.then(() => assert.fail("nothing was thrown"), (reason) => reason);
  assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
  return error;
}

describe("openai", () => {
  const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: SAY }];
  let client;
  before(() => (client = new OpenAI({ baseURL: `${server.url}v1`, apiKey: KEY, maxRetries: 0 })));

  test("a chat, with where it went in the headers", async () => {
    const more = { temperature: 0.25, top_p: 0.5, max_completion_tokens: 50, stop: ["END"], seed: 7 };
    const { data, response } = await client.chat.completions
      .create({ model: "auto", messages, ...more, user: "ada", store: false, metadata: { a: "b" } })
      .withResponse();
    assert.equal(data.object, "chat.completion");
    assert.equal(data.choices[0].message.content, SAY);
    assert.equal(data.choices[0].message.refusal, null);
    assert.equal(data.choices[0].finish_reason, "stop");
    assert.deepEqual(data.usage, { prompt_tokens: 7, completion_tokens: 4, total_tokens: 11 });
    assert.equal(response.headers.get("x-ruvllm-backend"), "small");
    assert.ok(data._request_id);
    const sent = llm.asked.at(-1);
    assert.deepEqual(sent.messages, messages);
    assert.deepEqual([sent.temperature, sent.top_p, sent.seed, sent.stop], [0.25, 0.5, 7, ["END"]]);
  });

  test("a stream, in pieces and with its usage only when that is asked for", async () => {
    for (const include_usage of [true, false]) {
      const options = include_usage ? { stream_options: { include_usage } } : {};
      const stream = await client.chat.completions.create({ model: "auto", messages, stream: true, ...options });
      const chunks = [];
      for await (const chunk of stream) chunks.push(chunk);
      const texts = chunks.map((chunk) => chunk.choices[0]?.delta.content).filter(Boolean);
      assert.deepEqual(texts, ["write ", "three ", "short ", "words"]);
      assert.equal(chunks[0].choices[0].delta.role, "assistant");
      assert.equal(chunks.filter((chunk) => chunk.choices[0]?.finish_reason === "stop").length, 1);
      assert.equal(chunks.at(-1).choices.length, include_usage ? 0 : 1);
      assert.equal(chunks.at(-1).usage?.total_tokens, include_usage ? 11 : undefined);
      assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    }
  });

  test("the client's own gatherer of streams", async () => {
    const runner = client.chat.completions.stream({ model: "auto", messages, stream_options: { include_usage: true } });
    const whole = await runner.finalChatCompletion();
    assert.equal(whole.choices[0].message.content, SAY);
    assert.equal((await runner.totalUsage()).total_tokens, 11);
  });

  test("tools and their calls are passed on", async () => {
    const tools = [{ type: "function", function: { name: "ls", parameters: { type: "object", properties: {} } } }];
    const call = { id: "c1", type: "function", function: { name: "ls", arguments: "{}" } };
    const turns = [
      ...messages,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "c1", content: "a.py" },
      { role: "assistant", content: [{ type: "refusal", refusal: "I will not." }] },
      { role: "user", content: "go on" },
    ];
    const asked = { model: "auto", messages: turns, reasoning_effort: "low" };
    const { data, response } = await client.chat.completions.create(asked).withResponse();
    assert.equal(data.choices[0].message.content, "go on");
    assert.equal(response.headers.get("x-ruvllm-ignored"), null);
    assert.deepEqual(llm.asked.at(-1).messages, turns);
    assert.equal(llm.asked.at(-1).reasoning_effort, "low");
    await client.chat.completions.create({ ...asked, tools, tool_choice: "required" });
    assert.deepEqual([llm.asked.at(-1).tools, llm.asked.at(-1).tool_choice], [tools, "required"]);
  });

  test("a conversation as long as a coding agent's is passed on whole", async () => {
    const long = [{ role: "system", content: "x ".repeat(100_000) }, { role: "user", content: "go on" }];
    await client.chat.completions.create({ model: "auto", messages: long, max_tokens: 32_000 });
    assert.equal(llm.asked.at(-1).messages[0].content.length, 200_000);
    assert.equal(llm.asked.at(-1).max_tokens, 32_000);
  });

  test("mistakes are the client's own errors", async () => {
    const create = (change) => client.chat.completions.create({ model: "auto", messages, ...change });
    const wrong = await rejected(create({ model: "gpt-unknown" }), OpenAI.NotFoundError);
    assert.deepEqual([wrong.code, wrong.param], ["model_not_found", "model"]);
    assert.equal((await rejected(create({ temperature: 3 }), OpenAI.BadRequestError)).param, "temperature");
    assert.equal((await rejected(create({ n: 0 }), OpenAI.BadRequestError)).param, "n");
    const stranger = new OpenAI({ baseURL: `${server.url}v1`, apiKey: "none", maxRetries: 0 });
    assert.equal((await rejected(stranger.models.list(), OpenAI.AuthenticationError)).code, "invalid_api_key");
  });

  test("a backend that breaks off ends the stream with an error", async () => {
    const broken = [{ role: "user", content: "break off after two words" }];
    const stream = await client.chat.completions.create({ model: "auto", messages: broken, stream: true });
    let text = "";
    const reading = (async () => {
      for await (const chunk of stream) text += chunk.choices[0].delta.content;
    })();
    await rejected(reading, OpenAI.APIError);
    assert.equal(text, "break off ");
  });

  test("embeddings in both forms, and models", async () => {
    const input = ["fix the login page", "bake a cake"];
    const plain = await client.embeddings.create({ model: "auto", input, encoding_format: "float" });
    const packed = await client.embeddings.create({ model: "static", input }); // the client asks for base64 by itself
    for (const [i, { embedding, index }] of packed.data.entries()) {
      assert.equal(index, i);
      assert.equal(embedding.length, plain.data[i].embedding.length);
      assert.ok(embedding.every((value, j) => Math.abs(value - plain.data[i].embedding[j]) < 1e-6));
    }
    const raw = await client.post("/embeddings", { body: { input, encoding_format: "base64" } });
    assert.equal(typeof raw.data[0].embedding, "string");
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    for (const name of ["auto", "small", "word-1", "static"]) assert.ok(names.includes(name), name);
    assert.equal((await client.models.retrieve("auto")).owned_by, "ruvllm");
    await rejected(client.models.retrieve("nothing"), OpenAI.NotFoundError);
  });
});

describe("anthropic", () => {
  const asked = { model: "claude-any", max_tokens: 64, messages: [{ role: "user", content: SAY }] };
  const TOOLS = [{ name: "ls", description: "lists", input_schema: { type: "object", properties: {} } }];
  let client;
  before(() => (client = new Anthropic({ baseURL: server.url, apiKey: KEY, maxRetries: 0 })));

  test("a message, with a system prompt as text or in blocks, and fields that it may ignore", async () => {
    const cached = [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }];
    const more = { metadata: { user_id: "ada" }, thinking: { type: "disabled" }, top_k: 5, service_tier: "auto" };
    for (const system of ["Be brief.", cached]) {
      const message = await client.messages.create({ ...asked, ...more, system, stop_sequences: ["END"] });
      assert.deepEqual(message.content, [{ type: "text", text: SAY }]);
      assert.deepEqual([message.type, message.role, message.stop_reason], ["message", "assistant", "end_turn"]);
      assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [7, 4]);
      assert.ok(message._request_id);
      assert.deepEqual(llm.asked.at(-1).messages[0], { role: "system", content: "Be brief." });
    }
  });

  test("a stream, raw and gathered by the client", async () => {
    const kinds = [];
    for await (const event of await client.messages.create({ ...asked, stream: true })) kinds.push(event.type);
    const pieces = Array(4).fill("content_block_delta");
    const ends = ["content_block_stop", "message_delta", "message_stop"];
    assert.deepEqual(kinds, ["message_start", "content_block_start", ...pieces, ...ends]);
    const stream = client.messages.stream(asked);
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const message = await stream.finalMessage();
    assert.deepEqual([text, await stream.finalText()], [SAY, SAY]);
    assert.equal(message.stop_reason, "end_turn");
    assert.equal(message.usage.output_tokens, 4);
  });

  test("a coding agent's conversation with tools, as its beta calls send it", async () => {
    const messages = [
      { role: "user", content: [{ type: "text", text: "list the files" }] },
      { role: "assistant", content: [
        { type: "thinking", thinking: "hm", signature: "s" },
        { type: "tool_use", id: "t1", name: "ls", input: { path: "." } },
      ] },
      { role: "user", content: [
        { type: "tool_result", tool_use_id: "t1", content: [{ type: "text", text: "a.py" }, { type: "text", text: "b.py" }] },
        { type: "text", text: "and now?" },
      ] },
    ]; // prettier-ignore
    const betas = ["context-management-2025-06-27"];
    const message = await client.beta.messages.create({ ...asked, messages, betas });
    assert.match(message.content[0].text, /and now\?$/);
    const said = llm.asked.at(-1).messages.map((turn) => turn.content);
    assert.deepEqual(said, ["list the files", null, "a.py\nb.py", "and now?"]);
    await client.messages.create({ ...asked, tools: TOOLS, tool_choice: { type: "any" } });
    assert.deepEqual([llm.asked.at(-1).tools[0].function.name, llm.asked.at(-1).tool_choice], [TOOLS[0].name, "required"]);
  });

  test("tokens are counted, and models listed", async () => {
    const { model, messages } = asked;
    const few = await client.messages.countTokens({ model, messages, system: "Be brief.", tools: TOOLS });
    const many = await client.messages.countTokens({ model, messages: [{ role: "user", content: "word ".repeat(900) }] });
    assert.ok(0 < few.input_tokens && few.input_tokens < many.input_tokens);
    const names = [];
    for await (const one of client.models.list()) names.push([one.id, one.type]);
    assert.ok(names.some(([id, type]) => id === "auto" && type === "model"));
    assert.equal((await client.models.retrieve("auto")).display_name, "auto");
  });

  test("mistakes are the client's own errors", async () => {
    const wrong = await rejected(client.messages.create({ ...asked, model: "llama" }), Anthropic.NotFoundError);
    assert.equal(wrong.error.error.type, "not_found_error");
    assert.ok(wrong.requestID);
    const none = client.messages.create({ ...asked, messages: [] });
    assert.match((await rejected(none, Anthropic.BadRequestError)).message, /messages/);
    const stranger = new Anthropic({ baseURL: server.url, apiKey: "none", maxRetries: 0 });
    await rejected(stranger.messages.create(asked), Anthropic.AuthenticationError);
  });

  test("a backend that breaks off ends the stream with an error", async () => {
    const broken = { ...asked, messages: [{ role: "user", content: "break off after two words" }] };
    const stream = client.messages.stream(broken);
    let text = "";
    stream.on("text", (piece) => (text += piece));
    await rejected(stream.finalMessage(), Anthropic.APIError);
    assert.equal(text, "break off ");
  });
});
