// Real edge servers for tests, each with a state file of its own.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const VENV = fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
const PYTHON = existsSync(VENV) ? VENV : "python";

/** A server on a free port: its address, and what ends it. */
export async function startServer(environment = {}) {
  const folder = await mkdtemp(join(tmpdir(), "ruvllm-"));
  const env = { ...process.env, RUVLLM_LOG_LEVEL: "error", RUVLLM_RATE: "0", OPENBLAS_NUM_THREADS: "1", ...environment };
  const state = join(folder, "state.db");
  const server = spawn(PYTHON, ["-m", "ruvllm.cli", "--state", state, "serve", "--port", "0", "--encoder", "static"], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const stop = async () => {
    server.kill("SIGTERM");
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  for await (const line of createInterface({ input: server.stdout })) {
    const url = /^http:\S+/.exec(line)?.[0];
    if (url) {
      server.stdout.resume();
      await answers(url);
      return { url, stop };
    }
  }
  throw new Error("the server ended before it said where it is");
}

async function answers(url) {
  for (;;) {
    const ready = await fetch(`${url}ready`).catch(() => undefined);
    if (ready?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
