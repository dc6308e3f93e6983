// Every call to Supabase that the page makes, in one place to copy from.
//
// The functions return the data or throw an Error: its `message` is for people, `status` is the HTTP status (0 where
// nothing answered), `details` what the database says for programs. Row level security decides what each of them may
// see and do; a filter on user_id is there because an admin would otherwise be shown everybody's rows.

// Where the project is: { url, publishableKey, billingUrl }. Neither of them is a secret; billingUrl may be missing.
const config = await (await fetch("config.json")).json();
const supabase = globalThis.supabase.createClient(config.url, config.publishableKey);

const UNREACHABLE = "The server cannot be reached. Check your connection and try again.";

async function answer(call) {
  call.retry?.(false); // reads would be tried for seven seconds before an error; the page itself reads again (fresh.js)
  const reply = await call;
  if (reply.error) throw asError(reply.error, reply.error.status ?? reply.status ?? 0);
  return reply;
}

const must = async (call) => (await answer(call)).data;

function asError(error, status) {
  const reached = !/Failed to fetch|NetworkError|Load failed/.test(error.message);
  const details = read(error.details);
  return Object.assign(new Error(reached ? error.message : UNREACHABLE), { status: reached ? status : 0, details });
}

/** What the database says for programs is JSON; what Postgres itself says is a sentence. */
function read(details) {
  try {
    return Object(JSON.parse(details));
  } catch {
    return {};
  }
}

// ---- Session

/** Calls back with the user, or null, now and at every change, also by another tab or because the session ran out. */
export function onUser(callback) {
  supabase.auth.onAuthStateChange((_event, session) => callback(session?.user ?? null));
}

/** Signs up. Null where the project first wants the link followed that it has mailed. */
export async function signUp(email, password) {
  const { session } = await must(supabase.auth.signUp({ email, password }));
  return session;
}

export const signIn = (email, password) => must(supabase.auth.signInWithPassword({ email, password }));

/** Ends the session in this browser; those on other devices stay. */
export const signOut = () => must(supabase.auth.signOut({ scope: "local" }));

// ---- The account

export const readProfile = (userId) => must(supabase.from("profiles").select().eq("id", userId).single());

/** Changes names, company, phone, marketing_emails or notification_emails. */
export async function updateProfile(userId, changes) {
  const changed = await must(supabase.from("profiles").update(changes).eq("id", userId).select("id"));
  if (!changed.length) throw asError({ message: "This account is deactivated and cannot be changed." }, 403);
}

/** How much his uploads take and may take: { used_bytes, limit_bytes }. */
export const readUploadUsage = () => must(supabase.rpc("upload_usage").single());

/** Everything that is known about the user, as one object. */
export const exportAccount = () => must(supabase.rpc("export_account"));

/** Deletes the account: first its stored files, which the database names, because deleting them is up to Storage. */
export async function deleteAccount() {
  for (;;) {
    try {
      await must(supabase.rpc("delete_account"));
      return;
    } catch (error) {
      if (!error.details?.first_keys) throw error;
      await removeFiles(error.details.first_keys);
    }
  }
}

/** How many of the user's operations have not ended. */
export async function countUnfinished(userId) {
  const all = supabase.from("image_operations").select("id", { count: "exact", head: true }).eq("user_id", userId);
  return (await answer(all.is("completed_at", null))).count;
}

// ---- Credits

/** The kinds of operations in their order, with words, options and prices. */
export const listOperationTypes = () => must(supabase.from("operation_types").select().order("sort_order"));

/** What an operation with these options would cost, in credits. */
export const quoteOperation = (type, options) =>
  must(supabase.rpc("quote_image_operation", { p_operation_type: type, p_options: options }));

/** What holds for all that is for sale: { currency }. */
export const readCatalogue = () => must(supabase.from("catalogue_settings").select("currency").single());

export const listPackages = () => must(supabase.from("pay_as_you_go_packages").select().order("sort_order"));

export const listPlans = () =>
  must(supabase.from("subscription_plans").select().gt("monthly_price", 0).order("sort_order"));

/** Credits that will expire, the first ones first. */
export const listExpiring = (userId) =>
  must(
    supabase
      .from("credit_grants")
      .select("id, remaining, expires_at")
      .eq("user_id", userId)
      .eq("is_spent", false)
      .gt("expires_at", new Date().toISOString())
      .order("expires_at"),
  );

/** Invoices of a user's subscriptions whose payment failed, and which wait to be paid, the oldest first. */
export const listUnpaid = (userId) =>
  must(
    supabase
      .from("billing_invoices")
      .select("id, stripe_subscription_id, amount_due, currency, hosted_url, next_attempt_at")
      .eq("user_id", userId)
      .eq("status", "open")
      .not("failed_attempt", "is", null)
      .order("created_at"),
  );

/** The newest entries of the ledger. */
export const listTransactions = (userId, limit) =>
  must(
    supabase.from("credit_transactions").select().eq("user_id", userId).order("seq", { ascending: false }).limit(limit),
  );

/** Whether something can be bought: the row is known to the payment provider, and a billing service is there. */
export const canBuy = (product) => Boolean(config.billingUrl && product.stripe_price_id);

/** Whether there is a portal where subscribers change their plan, their card and their invoices. */
export const canManage = Boolean(config.billingUrl);

/** The address of the payment page for { plan: its name } or { package: its id }; it leads back to this page. */
export const startCheckout = (product) =>
  askBilling("checkout", { ...product, success_url: here("paid"), cancel_url: here("") });

/** The address of the portal. */
export const openPortal = () => askBilling("portal", { return_url: here("") });

/** The page with the credits; `outcome` is told to it. */
const here = (outcome) => `${location.origin}${location.pathname}#/credits${outcome && `/${outcome}`}`;

async function askBilling(path, request) {
  const response = await fetch(`${config.billingUrl}/${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${await accessToken()}`, "content-type": "application/json" },
    body: JSON.stringify(request),
  }).catch((error) => Promise.reject(asError(error, 0)));
  const answer = await response.json().catch(() => ({ message: `Billing does not answer (${response.status}).` }));
  if (!response.ok) throw asError(answer, response.status);
  return answer.url;
}

async function accessToken() {
  const { session } = await must(supabase.auth.getSession());
  return session?.access_token;
}

// ---- Pictures

// As the bucket `originals` has it. Asked here too, so that nobody waits for an upload that will be refused.
export const UPLOAD = {
  bytes: 50 * 1024 * 1024,
  types: ["image/png", "image/jpeg", "image/webp", "image/tiff", "image/gif", "image/bmp", "image/svg+xml"],
};

/** Uploads a file into the user's own folder and tells the database; returns the row of `images`. */
export async function uploadImage(userId, file, { onProgress, signal }) {
  // Some servers tell a file's type by its name, and an SVG shows under its own type only.
  const path = `${userId}/${crypto.randomUUID()}.${/\w+$/.exec(file.type.replace("+xml", ""))[0]}`;
  await sendFile(path, file, onProgress, signal);
  const row = {
    user_id: userId,
    original_filename: file.name.slice(-255),
    original_file_size: file.size,
    original_file_type: file.type,
    original_url: `originals/${path}`,
  };
  try {
    return await must(supabase.from("images").insert(row).select().single());
  } catch (error) {
    if (error.status) await supabase.storage.from("originals").remove([path]); // refused: nothing will ever use it
    throw error;
  }
}

/** What storage.from("originals").upload(path, file) does, but fetch tells nothing of an upload's progress. */
async function sendFile(path, file, onProgress, signal) {
  const token = await accessToken();
  const request = new XMLHttpRequest();
  request.open("POST", `${config.url}/storage/v1/object/originals/${path}`);
  request.setRequestHeader("apikey", config.publishableKey);
  request.setRequestHeader("authorization", `Bearer ${token}`);
  request.setRequestHeader("content-type", file.type);
  request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
  signal.addEventListener("abort", () => request.abort());
  await new Promise((resolve, reject) => {
    request.onload = () => (request.status < 300 ? resolve() : reject(refusedUpload(request)));
    request.onerror = () => reject(asError({ message: "Failed to fetch" }, 0));
    request.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    request.send(file);
  });
}

function refusedUpload(request) {
  let message = `The upload was refused (${request.status}).`;
  try {
    message = JSON.parse(request.responseText).message;
  } catch {
    // A proxy on the way may answer with a page of its own.
  }
  return asError({ message }, request.status);
}

const IMAGE_WITH_OPERATIONS = "*, image_operations(id, operation_type, status, completed_at)";

/** The user's newest pictures: { images, total }. */
export async function listImages(userId, { favorites = false, limit }) {
  let query = supabase.from("images").select(IMAGE_WITH_OPERATIONS, { count: "exact" }).eq("user_id", userId);
  if (favorites) query = query.eq("is_favorite", true);
  const { data, count } = await answer(query.order("created_at", { ascending: false }).limit(limit));
  return { images: data, total: count };
}

/** One picture with its operations, newest first, and the collections it is in. Null where the user has no such one. */
export const readImage = (userId, imageId) =>
  must(
    supabase
      .from("images")
      .select("*, image_operations(*), image_collection_items(collection_id)")
      .eq("id", imageId)
      .eq("user_id", userId)
      .order("created_at", { referencedTable: "image_operations", ascending: false })
      .maybeSingle(),
  );

/** Changes original_filename, is_favorite or final_url. */
export const updateImage = (imageId, changes) => must(supabase.from("images").update(changes).eq("id", imageId));

/** Deletes the stored files and then the row, so that no byte outlives it unseen. Takes what readImage returned. */
export async function deleteImage(image) {
  const stored = [image.original_url];
  for (const { output_data: output } of image.image_operations) {
    stored.push(output?.url, output?.thumbnail_url, ...(output?.files ?? []).map(({ url }) => url));
  }
  await removeFiles(stored.filter(Boolean));
  await must(supabase.from("images").delete().eq("id", image.id));
}

// ---- Stored files. Rows name them `bucket/path`.

const splitKey = (key) => [key.slice(0, key.indexOf("/")), key.slice(key.indexOf("/") + 1)];
const pathOf = (key) => splitKey(key)[1];
const byBucket = (keys) => Map.groupBy(keys, (key) => splitKey(key)[0]);

async function removeFiles(keys) {
  for (const [bucket, own] of byBucket(keys)) await must(supabase.storage.from(bucket).remove(own.map(pathOf)));
}

const SIGNED_SECONDS = 3600;
const signed = new Map(); // key → { url, until }

/** Signed URLs by key, one request for each bucket; those that still hold are used again. */
export async function signUrls(keys) {
  const missing = new Set(keys.filter((key) => key && !(signed.get(key)?.until > Date.now())));
  for (const [bucket, wanted] of byBucket(missing)) {
    const until = Date.now() + (SIGNED_SECONDS - 300) * 1000;
    const files = supabase.storage.from(bucket);
    for (const { path, signedUrl } of await must(files.createSignedUrls(wanted.map(pathOf), SIGNED_SECONDS))) {
      if (signedUrl) signed.set(`${bucket}/${path}`, { url: signedUrl, until });
    }
  }
  return Object.fromEntries(keys.filter((key) => signed.has(key)).map((key) => [key, signed.get(key).url]));
}

/** A stored file as a Blob; where it belongs to a picture of the user's, the download is counted. */
export async function downloadFile(key, imageId) {
  const [bucket, path] = splitKey(key);
  const blob = await must(supabase.storage.from(bucket).download(path));
  if (imageId) await must(supabase.rpc("record_image_download", { p_image_id: imageId }));
  return blob;
}

// ---- Operations

const unanswered = new Map(); // requests whose answer has not come, as JSON → their keys

/**
 * Asks for an operation, which charges it, and returns its row. A request whose answer got lost keeps its key: sent
 * again, it charges nothing and gets the same answer.
 */
export async function requestOperation(imageId, operationType, options) {
  const request = JSON.stringify([imageId, operationType, options]);
  const key = unanswered.get(request) ?? crypto.randomUUID();
  unanswered.set(request, key);
  try {
    const operation = await must(
      supabase.rpc("request_image_operation", {
        p_image_id: imageId,
        p_operation_type: operationType,
        p_options: options,
        p_idempotency_key: key,
      }),
    );
    unanswered.delete(request);
    return operation;
  } catch (error) {
    if (error.status >= 400 && error.status < 500) unanswered.delete(request);
    throw error;
  }
}

/** Whether the same request was sent and never answered: sent again under its key, it is charged once. */
export const isUnanswered = (imageId, operationType, options) =>
  unanswered.has(JSON.stringify([imageId, operationType, options]));

export const cancelOperation = (operationId) =>
  must(supabase.rpc("cancel_image_operation", { p_operation_id: operationId }));

// ---- Collections

const ITEMS =
  "image_collection_items(image_id, added_at, " +
  "images(id, original_filename, original_file_size, original_file_type, original_url, thumbnail_url))";

export const listCollections = (userId) =>
  must(supabase.from("image_collections").select(`*, ${ITEMS}`).eq("user_id", userId).order("name"));

/** A collection of the user's with its pictures; null where he has no such one. */
export const readCollection = (userId, collectionId) =>
  must(
    supabase.from("image_collections").select(`*, ${ITEMS}`).eq("id", collectionId).eq("user_id", userId).maybeSingle(),
  );

/** A public collection as everybody sees it: names, thumbnails, files chosen for print. Null where it is none. */
export async function readPublicCollection(collectionId) {
  const collection = await must(supabase.from("image_collections").select().eq("id", collectionId).maybeSingle());
  if (!collection) return null;
  try {
    const images = await must(supabase.rpc("public_collection_images", { p_collection_id: collectionId }));
    return { ...collection, images };
  } catch (error) {
    if (error.status === 404) return null; // no longer public, since a moment ago
    throw error;
  }
}

export const createCollection = (userId, name) =>
  must(supabase.from("image_collections").insert({ user_id: userId, name }).select().single());

/** Changes name, description or is_public. */
export const updateCollection = (collectionId, changes) =>
  must(supabase.from("image_collections").update(changes).eq("id", collectionId));

export const deleteCollection = (collectionId) =>
  must(supabase.from("image_collections").delete().eq("id", collectionId));

export const addToCollection = (collectionId, imageId) =>
  must(supabase.from("image_collection_items").insert({ collection_id: collectionId, image_id: imageId }));

export const removeFromCollection = (collectionId, imageId) =>
  must(supabase.from("image_collection_items").delete().eq("collection_id", collectionId).eq("image_id", imageId));

// ---- Live updates

/**
 * Calls `onChange` when something of the user's changed, and `onLive` with whether that can be relied on. An event is
 * a signal to read again and nothing more: events get lost, and row level security decides anew at the reading.
 * Returns the function that ends it.
 */
export function watchChanges(userId, onChange, onLive) {
  const own = (table, column) => ({ event: "*", schema: "public", table, filter: `${column}=eq.${userId}` });
  const channel = supabase
    .channel(`changes:${userId}`)
    .on("postgres_changes", own("images", "user_id"), onChange)
    .on("postgres_changes", own("image_operations", "user_id"), onChange)
    .on("postgres_changes", own("profiles", "id"), onChange)
    // Joining is not enough: what happens before this message is not told.
    .on("system", {}, ({ extension, status }) => extension === "postgres_changes" && onLive(status === "ok"))
    .subscribe((status) => status !== "SUBSCRIBED" && onLive(false));
  return () => supabase.removeChannel(channel);
}
