// The user's pictures, and the place where new ones are dropped.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { UPLOAD, listImages, signUrls, updateImage } from "../supabase.js";
import { icon } from "../icons.js";
import { fileSize, once, previewKey, statusPill, thumbnail } from "../ui.js";
import { dropUpload, retryUpload, startUploads, uploads } from "../uploads.js";

const PAGE = 24;
const EMPTY = {
  true: "No favourites yet. The star on a picture makes it one.",
  false: "No pictures yet. Drop one above, or set a text under Lettering.",
};

export function gallery(app) {
  let favorites = false;
  let limit = PAGE;
  let images = [];
  let total = 0;
  let urls = {};

  async function load() {
    ({ images, total } = await listImages(app.user.id, { favorites, limit }));
    urls = await signUrls(images.map(previewKey));
  }

  function show(onlyFavorites) {
    favorites = onlyFavorites;
    limit = PAGE;
    app.refresh();
  }

  const star = (image) =>
    once(app, async () => {
      await updateImage(image.id, { is_favorite: !image.is_favorite });
      await app.refresh();
    });

  return {
    title: "Pictures",
    className: "gallery",
    load,
    body: () => html`
      <div class="heading">
        <h1 tabindex="-1">Pictures</h1>
        <div class="segmented" role="group" aria-label="Show">
          <button aria-pressed=${!favorites} @click=${() => show(false)}>All</button>
          <button aria-pressed=${favorites} @click=${() => show(true)}>${icon("star")}Favourites</button>
        </div>
      </div>
      ${dropZone(app)} ${uploadList()}
      ${
        images.length > 0
          ? html`<ul class="grid">
              ${repeat(
                images,
                (image) => image.id,
                (image) => card(image, urls[previewKey(image)], star(image)),
              )}
            </ul>`
          : html`<p class="empty">${EMPTY[favorites]}</p>`
      }
      ${
        total > images.length
          ? html`<p class="more">
              <button
                @click=${() => {
                  limit += PAGE;
                  app.refresh();
                }}
              >
                Show more (${total - images.length})
              </button>
            </p>`
          : nothing
      }
    `,
  };
}

function dropZone(app) {
  const over = (event, isOver) => {
    event.preventDefault();
    event.currentTarget.classList.toggle("over", isOver);
  };
  const choose = (event) => {
    startUploads(app, [...event.target.files]);
    event.target.value = ""; // the same file may be chosen again
  };
  const drop = (event) => {
    over(event, false);
    startUploads(app, [...event.dataTransfer.files]);
  };
  return html`
    <label
      class="drop-zone"
      @dragover=${(event) => over(event, true)}
      @dragleave=${(event) => over(event, false)}
      @drop=${drop}
    >
      <input type="file" multiple accept=${UPLOAD.types.join(",")} @change=${choose} aria-describedby="drop-hint" />
      ${icon("upload")}
      <span><strong>Drop pictures here</strong>, or <u>choose files</u></span>
      <small id="drop-hint">PNG, JPEG, WebP, TIFF, GIF, BMP or SVG, up to ${fileSize(UPLOAD.bytes)}</small>
    </label>
  `;
}

function uploadList() {
  if (uploads.length === 0) return nothing;
  return html`
    <ul class="uploads" aria-label="Uploads">
      ${repeat(
        uploads,
        (upload) => upload.id,
        (upload) => html`
          <li>
            <span class="name">${upload.file.name}</span>
            ${
              upload.error
                ? html`<span class="refusal" role="alert">${upload.error}</span>`
                : html`<progress
                    max="1"
                    .value=${upload.progress}
                    aria-label="Upload of ${upload.file.name}"
                  ></progress>`
            }
            ${upload.retryable ? html`<button @click=${() => retryUpload(upload)}>Try again</button>` : nothing}
            <button
              class="icon-only"
              aria-label="${upload.error ? "Remove" : "Cancel"} ${upload.file.name}"
              @click=${() => dropUpload(upload)}
            >
              ${icon("close")}
            </button>
          </li>
        `,
      )}
    </ul>
  `;
}

function card(image, url, star) {
  return html`
    <li class="card">
      <a href="#/pictures/${image.id}">
        ${thumbnail(url, "")}
        <span class="name">${image.original_filename}</span>
      </a>
      <span class="facts">${cardFacts(image)}</span>
      <button
        class="icon-only star"
        aria-pressed=${image.is_favorite}
        aria-label="Favourite: ${image.original_filename}"
        @click=${star}
      >
        ${icon(image.is_favorite ? "star-full" : "star")}
      </button>
    </li>
  `;
}

function cardFacts(image) {
  const operations = image.image_operations;
  const isUnfinished = operations.some(({ status }) => ["pending", "processing"].includes(status));
  if (isUnfinished || (operations.length > 0 && image.processing_status === "failed"))
    return statusPill(image.processing_status);
  const results = operations.filter(({ status }) => status === "completed").length;
  return results > 0 ? `${results} result${results === 1 ? "" : "s"}` : "Original only";
}
