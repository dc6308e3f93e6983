// What is made out of nothing: a text becomes a picture of its own.

import { html } from "../vendor/lit-html/lit-html.js";
import { offered, operationCard, readOptions } from "../operations.js";
import { requestOperation } from "../supabase.js";
import { once } from "../ui.js";

export function lettering(app) {
  let chosen = null;

  const start = once(app, async (event, kind) => {
    const { image_id: imageId } = await requestOperation(null, kind.name, readOptions(kind, event.target));
    app.go(`pictures/${imageId}`);
  });

  const choose = (name) => {
    chosen = name;
    app.update();
  };

  return {
    title: "Lettering",
    className: "narrow",
    load: async () => {},
    body: () => html`
      <h1 tabindex="-1">Lettering</h1>
      ${operationCard(app, {
        kinds: offered(app.kinds, "nothing"),
        chosen,
        heading: "What shall it say?",
        choose,
        start,
      })}
    `,
  };
}
