/** `import type {} from "ruvllm/react"`: `<ruvllm-router>` in the JSX of React 19 and 18. */
import type { DetailedHTMLProps, HTMLAttributes } from "react";
import type { RuvllmRouterElement, RuvllmRouterElements, RuvllmRouterEvents } from "./element.js";

/** React 19 listens by these; in 18 it is `ref` and `addEventListener`. */
type Listeners = { [K in keyof RuvllmRouterEvents as `on${K}`]?: (event: RuvllmRouterEvents[K]) => void };
type Own = RuvllmRouterElements["ruvllm-router"] & Listeners;
type Html = DetailedHTMLProps<HTMLAttributes<RuvllmRouterElement>, RuvllmRouterElement>;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "ruvllm-router": Omit<Html, keyof Own> & Own;
    }
  }
}
