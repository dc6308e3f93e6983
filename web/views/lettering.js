// A text becomes a picture of its own.

import { html } from "../vendor/lit-html/lit-html.js";
import { OPERATIONS, optionFields, readOptions } from "../operations.js";
import { requestOperation } from "../supabase.js";
import { once, startButton } from "../ui.js";

export function lettering(app) {
  const start = once(app, async (event) => {
    const { image_id: imageId } = await requestOperation(null, "generate", readOptions("generate", event.target));
    app.go(`pictures/${imageId}`);
  });

  const form = (price) => html`
    <form class="card" @submit=${start}>${optionFields("generate")} ${startButton(app, price)}</form>
  `;

  return {
    title: "Lettering",
    className: "narrow",
    load: async () => {},
    body: () => html`
      <h1 tabindex="-1">Lettering</h1>
      <p class="lead">${OPERATIONS.generate.about}</p>
      ${"generate" in app.prices ? form(app.prices.generate) : html`<p>This is not offered at the moment.</p>`}
    `,
  };
}
