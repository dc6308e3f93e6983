// The queue of uploads. It outlives the view that started it, so one may look elsewhere meanwhile.

import { UPLOAD, uploadImage } from "./supabase.js";
import { fileSize } from "./ui.js";

export const uploads = []; // { id, userId, file, progress 0…1, error, retryable, cancel }
let app;
let running = false;

/** Begins with files that were chosen or dropped; those that the server would refuse say so at once. */
export function startUploads(theApp, files) {
  app = theApp;
  for (const file of files) {
    const id = crypto.randomUUID();
    uploads.push({ id, userId: app.user.id, file, progress: 0, error: refusal(file), retryable: false });
  }
  app.update();
  return run();
}

function refusal(file) {
  if (!UPLOAD.types.includes(file.type))
    return "Not a picture that can be printed. PNG, JPEG, WebP, TIFF, GIF, BMP and SVG can.";
  if (file.size > UPLOAD.bytes) return `Too large: ${fileSize(file.size)}. The limit is ${fileSize(UPLOAD.bytes)}.`;
  return null;
}

export function retryUpload(upload) {
  upload.error = null;
  app.update();
  return run();
}

export function dropUpload(upload) {
  const position = uploads.indexOf(upload);
  if (position >= 0) uploads.splice(position, 1);
  upload.cancel?.();
  app.update();
}

/** Ends those of others: a browser may be shared. */
export function keepUploadsOf(userId) {
  for (const upload of uploads.filter((other) => other.userId !== userId)) dropUpload(upload);
}

async function run() {
  if (running) return;
  running = true;
  try {
    for (let next; (next = uploads.find((upload) => !upload.error));) await send(next);
  } finally {
    running = false;
  }
}

async function send(upload) {
  const controller = new AbortController();
  upload.cancel = () => controller.abort();
  try {
    await uploadImage(upload.userId, upload.file, {
      signal: controller.signal,
      onProgress: (progress) => {
        upload.progress = progress;
        app.update();
      },
    });
    dropUpload(upload);
    app.say(`${upload.file.name} is uploaded.`);
    await app.refresh();
  } catch (error) {
    upload.error = error.message;
    upload.retryable = error.status === 0;
    upload.progress = 0;
    app.update();
  }
}

addEventListener("beforeunload", (event) => {
  if (running) event.preventDefault();
});
