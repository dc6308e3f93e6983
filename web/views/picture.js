// One picture: before and after, its versions, what can be done with it, and what was done.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import * as api from "../supabase.js";
import { nameOf, offered, operationCard, readOptions, resultName } from "../operations.js";
import { icon } from "../icons.js";
import {
  confirm,
  credits,
  dateTime,
  fileSize,
  isShowable,
  once,
  previewKey,
  printSize,
  save,
  statusPill,
  thumbnail,
} from "../ui.js";
import { backdrops, comparison } from "./comparison.js";

const PRINT_MARK = html`<span class="mark">${icon("print")}<span class="hidden">, chosen for print</span></span>`;
const ORIGINAL = "original";

export function picture(app, imageId) {
  let image = null;
  let collections = [];
  let urls = {};
  let chosen = null; // the version that the user picked; else the newest is shown
  let operationType = null;
  let repeated = null; // the result that its own operation is to work on
  const look = { split: 50, backdrop: "checkerboard" };

  async function load() {
    [image, collections] = await Promise.all([api.readImage(app.user.id, imageId), api.listCollections(app.user.id)]);
    if (!image) return;
    const keys = completed().flatMap(({ input_data: input, output_data: output }) => [
      input.url,
      output.url,
      output.thumbnail_url,
    ]);
    const hidden = isShowable(image) ? null : image.original_url;
    urls = await api.signUrls([image.original_url, ...keys].filter((key) => key && key !== hidden));
  }

  const isUnfinished = () => image.image_operations.some(({ completed_at: end }) => !end);
  const completed = () => image.image_operations.filter(({ status }) => status === "completed");

  /** All versions, the original first, then the results from old to new. */
  function versions() {
    const original = image.original_url && {
      id: ORIGINAL,
      name: "Original",
      key: image.original_url,
      preview: previewKey({ ...image, thumbnail_url: null }),
      shown: image.original_url,
      details: { bytes: image.original_file_size },
    };
    const results = completed()
      .toReversed()
      .map((operation) => ({
        id: operation.id,
        type: operation.operation_type,
        name: resultName(app.kinds, operation),
        key: operation.output_data.url,
        preview: operation.output_data.thumbnail_url,
        details: operation.output_data,
        shown: isPicture(operation.output_data) ? operation.output_data.url : operation.output_data.thumbnail_url,
        before: operation.input_data.url,
      }));
    return [original, ...results].filter(Boolean);
  }

  /**
   * What the chosen operation works on while a version is shown. Nobody wants a result put through its own operation
   * by accident: whoever goes on there wants another result of the same picture.
   */
  function inputFor(version, all, type) {
    if (version.type !== type || version.id === repeated) return version;
    return all.find(({ key }) => key === version.before) ?? version;
  }

  /** The operation that gives the same result, if it was asked for already. */
  const requested = (type, options) =>
    image.image_operations.find(
      (operation) =>
        operation.operation_type === type &&
        !["failed", "cancelled"].includes(operation.status) &&
        inOrder(operation.options) === inOrder(options),
    );

  const doing = (work) =>
    once(app, async (event) => {
      await work(event);
      await app.refresh();
    });

  const start = (input) =>
    once(app, async (event, kind, price) => {
      const options = readOptions(kind, event.target);
      if (input.id !== ORIGINAL) options.input = input.id;
      const same = requested(kind.name, options);
      if (same && !api.isUnanswered(image.id, kind.name, options)) {
        const state = same.completed_at ? "was done already" : "is at work already";
        const question = `“${kind.title}” with the same options ${state} on “${input.name}”. Pay ${credits(price)} again?`;
        if (!(await confirm(question, "Pay again", "Leave it"))) return;
      }
      await api.requestOperation(image.id, kind.name, options);
      chosen = null;
      app.say(`${kind.title}: requested.`);
      await app.refresh();
    });

  const rename = doing(async (event) => {
    const name = event.target.elements.name.value.trim();
    if (name) await api.updateImage(image.id, { original_filename: name });
    event.target.closest("details").open = false;
  });

  const favorite = doing(() => api.updateImage(image.id, { is_favorite: !image.is_favorite }));

  const forPrint = (version) =>
    doing(() => api.updateImage(image.id, { final_url: image.final_url === version.key ? null : version.key }));

  const download = (version, file = null) =>
    doing(async () => {
      const key = file?.url ?? version.key;
      const blob = await api.downloadFile(key, image.id);
      const stem = image.original_filename.replace(/\.\w{1,5}$/, "");
      const words = [stem, version.name, file?.title].filter(Boolean).join(", ");
      save(blob, version.id === ORIGINAL ? image.original_filename : `${words}${/\.\w+$/.exec(key)[0]}`);
    });

  const remove = once(app, async () => {
    if (!(await confirm(`Delete “${image.original_filename}” with all its results?`, "Delete"))) return;
    await api.deleteImage(image);
    app.say(`${image.original_filename} is deleted.`);
    app.go("");
  });

  const toggleCollection = (collection, isIn) =>
    doing(() => (isIn ? api.removeFromCollection : api.addToCollection)(collection.id, image.id));

  const addToNewCollection = doing(async (event) => {
    const field = event.target.elements.name;
    const { id } = await api.createCollection(app.user.id, field.value.trim());
    field.value = "";
    await api.addToCollection(id, image.id);
  });

  // ---- Drawing

  const body = () => {
    if (!image) return missing();
    const all = versions();
    const version = all.find(({ id }) => id === chosen) ?? all.at(-1);
    return html`
      <p><a class="back" href="#/">${icon("back")}Pictures</a></p>
      <div class="heading">
        <h1 tabindex="-1">${image.original_filename}</h1>
        <div class="actions">
          <button class="icon-only star" aria-pressed=${image.is_favorite} aria-label="Favourite" @click=${favorite}>
            ${icon(image.is_favorite ? "star-full" : "star")}
          </button>
          ${collectionMenu()} ${moreMenu()}
        </div>
      </div>
      <div class="workbench">
        <div class="stage-column">${version ? stage(version, all) : waiting()}</div>
        <div class="tools">${version ? operationForm(version, all) : nothing} ${history()}</div>
      </div>
    `;
  };

  const missing = () => html`
    <h1 tabindex="-1">No such picture</h1>
    <p>It was deleted, or it belongs to somebody else.</p>
    <p><a class="button" href="#/">To your pictures</a></p>
  `;

  const waiting = () => html`
    <div class="stage">
      <p class="empty">${isUnfinished() ? "The first result will appear here." : "There is no result to show."}</p>
    </div>
  `;

  const stage = (version, all) => html`
    ${comparison({
      after: { ...version.details, url: urls[version.shown], name: version.name },
      before: version.before && {
        url: urls[version.before],
        name: all.find(({ key }) => key === version.before)?.name ?? "Before",
      },
      look,
      update: app.update,
    })}
    <p class="facts">
      ${version.details.width ? `${printSize(version.details.width, version.details.height)} · ` : nothing}
      ${version.details.bytes ? fileSize(version.details.bytes) : nothing}
    </p>
    ${version.details.warnings?.map((warning) => html`<p class="notice">${icon("warning")}${warning}</p>`)}
    <div class="actions">
      <button class="primary" @click=${download(version)}>${icon("download")}Download</button>
      ${version.details.files?.map(
        (file) => html`<button @click=${download(version, file)}>${icon("download")}${file.title}</button>`,
      )}
      ${
        version.id === ORIGINAL
          ? nothing
          : html`<button aria-pressed=${image.final_url === version.key} @click=${forPrint(version)}>
              ${icon("print")}${image.final_url === version.key ? "Chosen for print" : "Choose for print"}
            </button>`
      }
      ${backdrops(look, app.update)}
    </div>
    ${all.length > 1 ? versionStrip(version, all) : nothing}
  `;

  const versionStrip = (version, all) => html`
    <fieldset class="versions">
      <legend>Versions</legend>
      <div>
        ${repeat(
          all,
          ({ id }) => id,
          ({ id, name, preview, key }) => html`
            <label>
              <input
                type="radio"
                name="version"
                value=${id}
                .checked=${live(id === version.id)}
                @change=${() => {
                  chosen = id;
                  look.split = 50;
                  app.update();
                }}
              />
              ${thumbnail(urls[preview], "")}
              <span>${name}${image.final_url === key ? PRINT_MARK : nothing}</span>
            </label>
          `,
        )}
      </div>
    </fieldset>
  `;

  const operationForm = (version, all) => {
    const kinds = offered(app.kinds, "image");
    const kind = kinds.find(({ name }) => name === operationType) ?? kinds[0];
    const input = inputFor(version, all, kind?.name);
    const stay = () => (chosen = version.id); // a result that comes meanwhile does not change what is worked on
    return operationCard(app, {
      kinds,
      chosen: kind?.name,
      heading: "What shall be done?",
      choose: (name) => {
        operationType = name;
        stay();
        app.update();
      },
      start: start(input),
      touch: stay,
      more: html`
        ${kind && repeatSwitch(version, kind)}
        <p class="facts">Works on: <strong>${input.name}</strong></p>
      `,
    });
  };

  const repeatSwitch = (version, kind) =>
    kind.is_repeatable && version.type === kind.name
      ? html`
          <label class="check">
            <input
              type="checkbox"
              .checked=${live(version.id === repeated)}
              @change=${(event) => {
                repeated = event.target.checked ? version.id : null;
                app.update();
              }}
            />${kind.title} this result once more
          </label>
        `
      : nothing;

  const history = () => html`
    <section class="card" aria-labelledby="history-heading">
      <h2 id="history-heading">What was done</h2>
      ${image.image_operations.length === 0 ? html`<p class="facts">Nothing yet.</p>` : nothing}
      <ul class="history">
        ${repeat(
          image.image_operations,
          ({ id }) => id,
          (operation) => html`
            <li>
              <span class="name">${nameOf(app.kinds, operation.operation_type)}</span>${statusPill(operation.status)}
              <span class="facts">${historyFacts(operation)}</span>
              ${
                ["pending", "processing"].includes(operation.status)
                  ? html`<button @click=${doing(() => api.cancelOperation(operation.id))}>Cancel</button>`
                  : nothing
              }
            </li>
          `,
        )}
      </ul>
    </section>
  `;

  const collectionMenu = () => html`
    <details class="menu">
      <summary class="button">${icon("collections")}Collections</summary>
      <div class="card">
        ${collections.map((collection) => {
          const isIn = image.image_collection_items.some((item) => item.collection_id === collection.id);
          return html`
            <label class="check">
              <input
                type="checkbox"
                .checked=${live(isIn)}
                @change=${toggleCollection(collection, isIn)}
              />${collection.name}
            </label>
          `;
        })}
        <form class="row" @submit=${addToNewCollection}>
          <input name="name" maxlength="200" placeholder="New collection" aria-label="New collection" required />
          <button>Add</button>
        </form>
      </div>
    </details>
  `;

  const moreMenu = () => html`
    <details class="menu">
      <summary class="button">More</summary>
      <div class="card">
        <form class="row" @submit=${rename}>
          <input name="name" maxlength="255" .defaultValue=${image.original_filename} aria-label="Name" required />
          <button>Rename</button>
        </form>
        <button class="danger" @click=${remove}>${icon("trash")}Delete this picture</button>
      </div>
    </details>
  `;

  return {
    get title() {
      return image?.original_filename ?? "Picture";
    },
    className: "picture",
    load,
    body,
  };
}

// What browsers show: not PDF and TIFF, for which the thumbnail stands.
const isPicture = ({ media_type: type }) => type === undefined || type === "image/png" || type === "image/svg+xml";

const inOrder = (options) => JSON.stringify(Object.entries(options).toSorted());

function historyFacts(operation) {
  const when = dateTime(operation.completed_at ?? operation.created_at);
  const price = operation.credits_refunded ? "credits returned" : credits(operation.credits_used);
  const words = operation.error_message ? `${operation.error_message} ` : "";
  const attempt = operation.attempts > 1 && !operation.completed_at ? ` · attempt ${operation.attempts}` : "";
  return `${words}${when} · ${price}${attempt}`;
}
