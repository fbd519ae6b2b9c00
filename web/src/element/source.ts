/** From the element's attributes to a router: in this page, or at an edge server. */
import { RuvllmError } from "../errors.js";
import { HttpRouter } from "../http.js";
import type { Agent, AgentFile, LoadOptions, LoadProgress, Router } from "../types.js";

export interface Source {
  /** "local" or the address of an edge server. */
  endpoint: string;
  /** The built folder; null for the default of `RuvLLM.load`. */
  baseURL: string | null;
  /** Agents, the address of a JSON file of them, or null for the built-in ones. */
  agents: readonly Agent[] | string | null;
  onProgress: (progress: LoadProgress) => void;
}

/** Opens the router. A server has its own agents; `agents` is for the local one. */
export async function openRouter({ endpoint, baseURL, agents, onProgress }: Source): Promise<Router> {
  if (endpoint !== "local") return new HttpRouter(endpoint);
  const options: LoadOptions = { onProgress };
  if (baseURL) options.baseURL = new URL(baseURL, document.baseURI);
  if (typeof agents === "string") options.agents = await agentFile(agents);
  else if (agents) options.agents = [...agents];
  const { RuvLLM } = await import("../client.js");
  return RuvLLM.load(options);
}

/** The file as text: the core reads it, so that a mistake is named with its line. */
async function agentFile(address: string): Promise<AgentFile[]> {
  const url = new URL(address, document.baseURI);
  const fix = "give the address of a JSON file with a list of agents";
  let response: Response;
  try {
    response = await fetch(url);
  } catch (cause) {
    throw new RuvllmError(`${url.href} cannot be reached`, { field: "agents", fix, cause });
  }
  if (!response.ok) throw new RuvllmError(`${url.href} answered ${response.status}`, { field: "agents", fix });
  const text = (await response.text()).trim();
  const path = url.pathname.split("/").pop() || "agents.json";
  return [{ path, text: text.startsWith("[") ? `{"agents":${text}}` : text }];
}
