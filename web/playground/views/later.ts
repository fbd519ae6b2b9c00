/** Views whose code is fetched when they are first shown: the first route need not wait for it. */
import { h, put } from "../../src/element/dom.js";
import { explain } from "../../src/element/words.js";

export interface View {
  panel: HTMLElement;
  /** Called each time the view is shown. */
  onShow?: () => void;
}

/** A view in a tab: folded until it is wanted where it has words (or an element) about it. */
export interface Folded extends View {
  id: string;
  title: string;
  about?: string | HTMLElement;
}

export function later(load: () => Promise<View>): Required<View> {
  const panel = h("div", {});
  let view: Promise<View> | null = null;
  const onShow = () => {
    if (!view) {
      put(panel, h("p", { class: "empty" }, "Opening…"));
      view = load();
      view.then(
        (loaded) => put(panel, loaded.panel),
        (error: unknown) => {
          view = null; // the next visit of the tab tries again
          put(panel, h("p", { class: "empty bad" }, explain(error)));
        },
      );
    }
    void view.then((loaded) => loaded.onShow?.(), () => undefined);
  };
  return { panel, onShow };
}
