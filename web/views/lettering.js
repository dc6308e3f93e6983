// A text becomes a picture of its own.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { OPERATIONS, optionFields, readOptions } from "../operations.js";
import { requestOperation } from "../supabase.js";
import { credits, once } from "../ui.js";

export function lettering(app) {
  let request = null; // { shape, key } of a request that got no answer

  const start = once(app, async (event) => {
    const options = readOptions("generate", event.target);
    const shape = JSON.stringify(options);
    if (request?.shape !== shape) request = { shape, key: crypto.randomUUID() };
    try {
      const { image_id: imageId } = await requestOperation(null, "generate", options, request.key);
      request = null;
      app.go(`pictures/${imageId}`);
    } catch (error) {
      if (error.status) request = null;
      throw error;
    }
  });

  const form = (price) => html`
    <form class="card" @submit=${start}>
      ${optionFields("generate")}
      ${price > app.profile.credits_remaining
        ? html`<p class="notice low">This takes ${credits(price)}; you have ${app.profile.credits_remaining}. <a href="#/credits">Get credits</a></p>`
        : nothing}
      <button class="primary wide">Start for ${credits(price)}</button>
    </form>
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
