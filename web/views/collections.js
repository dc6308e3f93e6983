// The user's collections.

import { html } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { createCollection, listCollections, signUrls } from "../supabase.js";
import { icon } from "../icons.js";
import { once, previewKey } from "../ui.js";

const COVERS = 4;

export function collections(app) {
  let list = [];
  let urls = {};

  const covers = (collection) =>
    collection.image_collection_items
      .map(({ images }) => images && previewKey(images))
      .filter(Boolean)
      .slice(0, COVERS);

  async function load() {
    list = await listCollections(app.user.id);
    urls = await signUrls(list.flatMap(covers));
  }

  const create = once(app, async (event) => {
    const { id } = await createCollection(app.user.id, event.target.elements.name.value.trim());
    app.go(`collections/${id}`);
  });

  const card = (collection) => html`
    <li class="card">
      <a href="#/collections/${collection.id}">
        <span class="covers"
          >${covers(collection).map((key) => html`<img src=${urls[key]} alt="" loading="lazy" />`)}</span
        >
        <span class="name">${collection.name}</span>
      </a>
      <span class="facts">
        ${collection.image_collection_items.length} picture${collection.image_collection_items.length === 1 ? "" : "s"}
        ${collection.is_public ? html`· ${icon("link")} Public` : ""}
      </span>
    </li>
  `;

  return {
    title: "Collections",
    className: "gallery",
    load,
    body: () => html`
      <div class="heading">
        <h1 tabindex="-1">Collections</h1>
        <form class="row" @submit=${create}>
          <input
            name="name"
            maxlength="200"
            placeholder="New collection"
            aria-label="Name of the new collection"
            required
          />
          <button class="primary">Create</button>
        </form>
      </div>
      ${
        list.length > 0
          ? html`<ul class="grid">
              ${repeat(list, ({ id }) => id, card)}
            </ul>`
          : html`<p class="empty">
              No collections yet. One holds the pictures of an order, or shows them to a customer.
            </p>`
      }
    `,
  };
}
