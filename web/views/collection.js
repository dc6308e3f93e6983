// One collection: its owner edits it and may publish it; everybody who has the link of a public one sees it.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import * as api from "../supabase.js";
import { offered, operationCard, readOptions } from "../operations.js";
import { icon } from "../icons.js";
import { confirm, once, previewKey, thumbnail } from "../ui.js";

export function collection(app, collectionId) {
  let shown = null;
  let isOwner = false;
  let images = [];
  let urls = {};
  let operationType = null;

  async function load() {
    const own = app.user && (await api.readCollection(app.user.id, collectionId));
    isOwner = Boolean(own);
    shown = own ?? (await api.readPublicCollection(collectionId));
    images = own ? ownImages() : (shown?.images ?? []).map(({ image_id: id, ...image }) => ({ id, ...image }));
    urls = await api.signUrls(images.flatMap((image) => [previewKey(image), image.final_url]).filter(Boolean));
  }

  const ownImages = () =>
    shown.image_collection_items.toSorted((a, b) => a.added_at.localeCompare(b.added_at)).map((item) => item.images);

  const doing = (work) =>
    once(app, async (event) => {
      await work(event);
      await app.refresh();
    });

  const save = doing(async (event) => {
    const { name, description } = event.target.elements;
    await api.updateCollection(shown.id, { name: name.value.trim(), description: description.value.trim() || null });
    event.target.closest("details").open = false;
  });

  const publish = doing(() => api.updateCollection(shown.id, { is_public: !shown.is_public }));

  const copyLink = once(app, async () => {
    await navigator.clipboard.writeText(location.href);
    app.say("The link is copied.");
  });

  const remove = once(app, async () => {
    if (!(await confirm(`Delete the collection “${shown.name}”? Its pictures stay.`, "Delete"))) return;
    await api.deleteCollection(shown.id);
    app.go("collections");
  });

  const start = once(app, async (event, kind) => {
    const options = { ...readOptions(kind, event.target), collection_id: shown.id };
    const { image_id: imageId } = await api.requestOperation(null, kind.name, options);
    app.go(`pictures/${imageId}`);
  });

  const operations = () => {
    const kinds = offered(app.kinds, "collection");
    if (!isOwner || kinds.length === 0) return nothing;
    return operationCard(app, {
      kinds,
      chosen: operationType,
      heading: "What shall be done with all of them?",
      choose: (name) => {
        operationType = name;
        app.update();
      },
      start,
    });
  };

  const ownersTools = () => html`
    <div class="actions">
      <label class="check switch">
        <input type="checkbox" role="switch" .checked=${live(shown.is_public)} @change=${publish} />
        <span>Anyone with the link may look<br /><small>They see results, never your originals.</small></span>
      </label>
      ${shown.is_public ? html`<button @click=${copyLink}>${icon("link")}Copy the link</button>` : nothing}
      <details class="menu">
        <summary class="button">Edit</summary>
        <div class="card">
          <form @submit=${save}>
            <div class="field">
              <label for="name">Name</label>
              <input id="name" name="name" maxlength="200" .defaultValue=${shown.name} required />
            </div>
            <div class="field">
              <label for="description">Description</label>
              <textarea
                id="description"
                name="description"
                maxlength="2000"
                rows="3"
                .defaultValue=${shown.description ?? ""}
              ></textarea>
            </div>
            <button class="primary wide">Save</button>
          </form>
          <button class="danger" @click=${remove}>${icon("trash")}Delete this collection</button>
        </div>
      </details>
    </div>
  `;

  const card = (image) => {
    const inside = html`${thumbnail(urls[previewKey(image)], "")}<span class="name">${image.original_filename}</span>`;
    return html`
      <li class="card">
        ${isOwner ? html`<a href="#/pictures/${image.id}">${inside}</a>` : html`<div>${inside}</div>`}
        ${
          isOwner
            ? html`
                <button
                  class="icon-only star"
                  aria-label="Take ${image.original_filename} out of the collection"
                  @click=${doing(() => api.removeFromCollection(shown.id, image.id))}
                >
                  ${icon("close")}
                </button>
              `
            : image.final_url
              ? html`<a class="facts" href=${urls[image.final_url]} target="_blank" rel="noopener"
                  >${icon("print")} Print file</a
                >`
              : nothing
        }
      </li>
    `;
  };

  const body = () => {
    if (!shown) {
      return html`
        <h1 tabindex="-1">No such collection</h1>
        <p>It was deleted, or its owner does not share it.</p>
        <p><a class="button" href="#/">To the start</a></p>
      `;
    }
    return html`
      ${isOwner ? html`<p><a class="back" href="#/collections">${icon("back")}Collections</a></p>` : nothing}
      <div class="heading">
        <h1 tabindex="-1">${shown.name}</h1>
        ${isOwner ? ownersTools() : nothing}
      </div>
      ${shown.description ? html`<p class="lead">${shown.description}</p>` : nothing}
      ${
        images.length > 0
          ? html`<ul class="grid">
              ${repeat(images, ({ id }) => id, card)}
            </ul>`
          : html`<p class="empty">
              ${isOwner ? "Empty. Open a picture and put it in with “Collections”." : "This collection is empty."}
            </p>`
      }
      ${operations()}
    `;
  };

  return {
    get title() {
      return shown?.name ?? "Collection";
    },
    className: "gallery",
    isPublic: true,
    load,
    body,
  };
}
