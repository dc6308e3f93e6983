// What @supabase/lite 0.10.0 does differently from a hosted project, mended here and nowhere else:
//
//   - timestamps leave as ISO 8601 (`2026-01-02T03:04:05.6+00:00`), as PostgREST writes them;
//   - an object, array, number or boolean passed to a jsonb argument of an RPC arrives as such, not as a string;
//   - the first request does not grant everything on every table to anon, authenticated and service_role: the roles
//     are made by bootstrap.sql, and what they may do is decided by the migrations alone;
//   - the file of a multipart upload is found whatever its part is called (browsers send an empty name), also with PUT;
//   - a listing of a folder names what lies in it relative to it, its subfolders once;
//   - signed URLs are also named `signedURL` (`url` for uploads) and are relative to /storage/v1.

import { createPostgresConnection } from "@supabase/lite/postgres";

const isoTimestamp = (text) => text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");

// Arguments of an RPC come here as JSON text already, but for strings. (So a string that is JSON itself becomes what
// it says; PostgREST would keep the string.)
function jsonText(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  try {
    JSON.parse(value);
    return value;
  } catch {
    return JSON.stringify(value);
  }
}

const postgresTypes = {
  timestamp: { to: 1114, from: [1114], serialize: (value) => value, parse: isoTimestamp },
  timestamptz: { to: 1184, from: [1184], serialize: (value) => value, parse: isoTimestamp },
  jsonb: { to: 3802, from: [3802], serialize: jsonText, parse: (text) => JSON.parse(text) },
};

/** A connection pool of `max` connections. */
export function connect(url, max) {
  const connection = createPostgresConnection({
    url,
    postgresOptions: {
      max,
      types: postgresTypes,
      onnotice: () => {},
      backoff: () => 0.2, // seconds; its own goes up to 20, long after the database is back
    },
  });
  connection.rlsState = "active"; // "unknown" makes it create roles and grant them everything
  return connection;
}

/** The request as the server understands it, and what mendResponse has to know of it. */
export async function mendRequest(request) {
  const { pathname } = new URL(request.url);
  if (!pathname.startsWith("/storage/v1/object/")) return { request };
  const type = request.headers.get("content-type") ?? "";
  if (type.startsWith("multipart/form-data")) return { request: await plainUpload(request) };
  if (request.method !== "POST") return { request };
  if (/^\/storage\/v1\/object\/(upload\/)?sign\//.test(pathname)) return { request, signs: true };
  if (!pathname.startsWith("/storage/v1/object/list/")) return { request };
  const body = await request.text();
  return { request: new Request(request, { body }), lists: body };
}

export async function mendResponse({ signs, lists }, response) {
  if (!response.ok || (signs === undefined && lists === undefined)) return response;
  const body = await response.json();
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  const mended = signs ? signedUrls(body) : relativeNames(body, JSON.parse(lists).prefix ?? "");
  return new Response(JSON.stringify(mended), { status: response.status, headers });
}

async function plainUpload(request) {
  const form = await request.formData();
  const file = [...form.values()].find((part) => part instanceof File) ?? new File([], "");
  const headers = new Headers(request.headers);
  headers.set("content-type", file.type || "application/octet-stream");
  headers.set("content-length", String(file.size));
  if (form.has("cacheControl")) headers.set("cache-control", `max-age=${form.get("cacheControl")}`);
  if (form.has("metadata")) headers.set("x-metadata", btoa(form.get("metadata")));
  return new Request(request.url, { method: request.method, headers, body: file, duplex: "half" });
}

function relativeNames(entries, prefix) {
  const folder = prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix;
  const found = new Map();
  for (const entry of entries) {
    if (!entry.name.startsWith(folder)) continue;
    const [name, ...below] = entry.name.slice(folder.length).split("/");
    const nothing = { id: null, metadata: null, created_at: null, updated_at: null, last_accessed_at: null };
    found.set(name, below.length > 0 ? { name, ...nothing } : { ...entry, name });
  }
  return [...found.values()];
}

function signedUrls(body) {
  return Array.isArray(body) ? body.map(signedUrl) : signedUrl(body);
}

function signedUrl(entry) {
  if (typeof entry?.signedUrl !== "string") return entry;
  const relative = entry.signedUrl.replace(/^\/storage\/v1/, "");
  return { ...entry, signedUrl: relative, signedURL: relative, url: relative };
}
