// A router for as long as its component is there, and null until it routes.
import { useEffect, useState } from "react";
import { openRouter, type OpenOptions, type Router } from "ruvllm";

/** @param given counts as it is at first: `{ endpoint: "https://edge.example" }`, or what `RuvLLM.load` takes */
export function useRouter(given: OpenOptions = {}): Router | null {
  const [router, set] = useState<Router | null>(null);
  const [options] = useState(given);
  useEffect(() => {
    const end = new AbortController();
    const opening = openRouter({ ...options, signal: end.signal });
    opening.then((opened) => end.signal.aborted || set(opened), (error: unknown) => end.signal.aborted || console.error(error));
    return () => {
      end.abort();
      set(null);
      void opening.then((opened) => opened.close(), () => undefined);
    };
  }, [options]);
  return router;
}
