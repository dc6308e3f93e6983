// Small pieces that several views use: words for figures, messages, a question, and buttons that wait.

import { icon } from "./icons.js";
import { html, nothing, render } from "./vendor/lit-html/lit-html.js";

export const credits = (count) => `${count} credit${count === 1 ? "" : "s"}`;

export function fileSize(bytes) {
  if (bytes < 1024 ** 2) return `${Math.max(1, Math.round(bytes / 1024))} KB`;
  if (bytes < 1024 ** 3) return `${Number((bytes / 1024 ** 2).toFixed(1))} MB`;
  return `${Number((bytes / 1024 ** 3).toFixed(1))} GB`;
}

export const dateTime = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

const PRINT_DPI = 300;

/** "2000 × 1500 px, 16.9 × 12.7 cm at 300 DPI" */
export function printSize(width, height) {
  const centimetres = (pixels) => ((pixels / PRINT_DPI) * 2.54).toFixed(1);
  return `${width} × ${height} px, ${centimetres(width)} × ${centimetres(height)} cm at ${PRINT_DPI} DPI`;
}

/**
 * A handler of clicks and the like that runs once at a time for its element and tells what went wrong. The element is
 * marked as busy rather than disabled, which would take the focus away from it.
 */
export function once(app, work) {
  return async (event, ...more) => {
    if (event.type !== "change") event.preventDefault();
    const element = event.submitter ?? event.currentTarget;
    if (element.ariaBusy) return;
    element.ariaBusy = "true";
    try {
      await work(event, ...more);
    } catch (error) {
      app.report(error);
    } finally {
      element.ariaBusy = null;
    }
  };
}

/** Asks before something that cannot be undone; resolves to whether to go on. */
export function confirm(question, action, refusal = "Keep it") {
  const dialog = document.createElement("dialog");
  dialog.className = "question";
  dialog.setAttribute("aria-labelledby", "question-text");
  render(
    html`
      <form method="dialog">
        <p id="question-text">${question}</p>
        <div class="actions">
          <button value="">${refusal}</button>
          <button class="danger" value="yes">${action}</button>
        </div>
      </form>
    `,
    dialog,
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

/** Lets the browser save a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// What every browser can show. Of large originals the first result brings a thumbnail.
const SHOWABLE = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/svg+xml"];
const SHOWABLE_BYTES = 10 * 1024 * 1024;

/** Whether a browser can show the original. */
export const isShowable = (image) => SHOWABLE.includes(image.original_file_type);

/** The stored file that stands for a picture in a list, or null. */
export function previewKey(image) {
  if (image.thumbnail_url) return image.thumbnail_url;
  return isShowable(image) && image.original_file_size <= SHOWABLE_BYTES ? image.original_url : null;
}

/** The button that starts an operation, and a word before it where the credits do not suffice. */
export const startButton = ({ profile }, price) => html`
  ${price > profile.credits_remaining ? html`<p class="notice low">${tooFew(profile, price)}</p>` : nothing}
  <button class="primary wide">Start for ${credits(price)}</button>
`;

const tooFew = (profile, price) => html`
  This takes ${credits(price)}; you have ${profile.credits_remaining}. <a href="#/credits">Get credits</a>
`;

/** A thumbnail on the checkerboard that shows transparency. */
export const thumbnail = (url, alt) => html`
  <span class="thumbnail">
    ${
      url
        ? html`<img class="checkerboard" src=${url} alt=${alt} loading="lazy" />`
        : html`<span class="no-preview">${icon("pictures")}</span>`
    }
  </span>
`;

const STATUS_WORDS = {
  pending: "Waiting",
  processing: "Working",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

export const statusPill = (status) =>
  status ? html`<span class="pill ${status}"><span class="dot"></span>${STATUS_WORDS[status]}</span>` : nothing;
