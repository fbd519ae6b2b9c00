/** `import type {} from "ruvllm/vue"`: `<ruvllm-router>` in Vue's templates, as vue-tsc checks them. */
import type { HTMLAttributes } from "vue";
import type { RuvllmRouterElement, RuvllmRouterElements, RuvllmRouterEvents } from "./element.js";

type Listeners = { [K in keyof RuvllmRouterEvents as `on${Capitalize<K>}`]?: (event: RuvllmRouterEvents[K]) => void };
type Own = RuvllmRouterElements["ruvllm-router"] & Listeners;

declare module "vue" {
  interface GlobalComponents {
    "ruvllm-router": new () => RuvllmRouterElement & { $props: Omit<HTMLAttributes, keyof Own> & Own };
  }
}
