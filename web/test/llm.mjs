// A small LLM server for tests: it says what the last message said, word by word, as OpenAI's API does.
import { createServer } from "node:http";

/** Its address, what it was asked, and its end. A message of "break off" loses the connection after two words. */
export async function startLlm() {
  const asked = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const piece of request) text += piece;
    const body = JSON.parse(text);
    asked.push(body);
    const said = body.messages.at(-1).content;
    const words = said.split(/(?<= )/);
    const usage = { prompt_tokens: 7, completion_tokens: words.length, total_tokens: 7 + words.length };
    const head = { id: "chatcmpl-1", created: 1, model: body.model };
    if (!body.stream) {
      const choices = [{ index: 0, message: { role: "assistant", content: said, refusal: null }, finish_reason: "stop" }];
      response.writeHead(200, { "content-type": "application/json" });
      return void response.end(JSON.stringify({ ...head, object: "chat.completion", choices, usage }));
    }
    const event = (more) => response.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...more })}\n\n`);
    const piece = (delta, finish_reason = null) => event({ choices: [{ index: 0, delta, finish_reason }] });
    response.writeHead(200, { "content-type": "text/event-stream" });
    piece({ role: "assistant", content: "" });
    for (const [i, word] of words.entries()) {
      if (said.startsWith("break off") && i === 2) return void response.socket.end(); // when all that was said has gone
      piece({ content: word });
    }
    piece({}, "stop");
    if (body.stream_options?.include_usage) event({ choices: [], usage });
    response.end("data: [DONE]\n\n");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}/v1`;
  return { url, asked, stop: () => new Promise((resolve) => server.close(resolve) && server.closeAllConnections()) };
}
