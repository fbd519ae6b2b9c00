/** From options to a router: in this process or page, or at an edge server. */
import { type HttpOptions, HttpRouter } from "./http.js";
import { options as plainOptions } from "./plain.js";
import type { LoadOptions, Router } from "./types.js";

/** What `openRouter` takes: for "local" what `RuvLLM.load` does, for a server what `HttpRouter` does. */
export interface OpenOptions extends LoadOptions, HttpOptions {
  /** "local" (default) or the address of an edge server, which has its own agents, encoder and state. */
  endpoint?: string | URL;
}

/** An `openRouter` whose local routers are loaded by this. */
export function opener(load: (options: LoadOptions) => Promise<Router>): (options?: OpenOptions) => Promise<Router> {
  return async (given) => {
    const { endpoint = "local", headers, timeout, ...options } = plainOptions(given);
    if (endpoint === "local") return load(options);
    const router = new HttpRouter(endpoint, { ...(headers && { headers }), ...(timeout && { timeout }) });
    await router.stats(); // a wrong address or key shows now
    return router;
  };
}
