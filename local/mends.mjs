// What @supabase/lite 0.10.0 does differently from a hosted project, mended here and nowhere else:
//
//   - timestamps leave as ISO 8601 (`2026-01-02T03:04:05.6+00:00`), as PostgREST writes them;
//   - the text `unknown` in a filter (eq, neq, in) is a text, not null;
//   - numeric and bigint leave as numbers, not as strings;
//   - pages of every origin may call every part, Auth included;
//   - an object, array, number or boolean passed to a jsonb argument of an RPC arrives as such, not as a string;
//   - the first request does not grant everything on every table to anon, authenticated and service_role: the roles
//     are made by bootstrap.sql, and what they may do is decided by the migrations alone;
//   - a violated check constraint is a 400 with its code, as every other mistake of the caller, not a 500;
//   - the file of a multipart upload is found whatever its part is called (browsers send an empty name), also with PUT;
//   - a listing of a folder names what lies in it relative to it, its subfolders once;
//   - several URLs can be signed in one request;
//   - an upload that a trigger refuses with the SQLSTATE 42501 is answered with the trigger's own message;
//   - what is opened by itself, such as a stored document, runs no script: here it would be on the web client's own
//     origin. That goes for every answer, because the server reads paths more leniently than is worth repeating here;
//   - the links in Auth's mails lead to the redirect_to of the request, and a code may be of the type `email`;
//   - a body that is no JSON, or no form, and a signed URL with a token that is none are the caller's mistake: a 400;
//   - signed URLs are also named `signedURL` (`url` for uploads) and are relative to /storage/v1.

import { AsyncLocalStorage } from "node:async_hooks";
import { SmtpEmailDriver } from "@supabase/lite";
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
  numeric: { to: 1700, from: [1700, 20], serialize: String, parse: Number },
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
  const normalized = connection.normalizeDbError.bind(connection);
  connection.normalizeDbError = (error) => {
    const known = normalized(error);
    const refusal = refusals.getStore();
    if (refusal && known?.code === "42501") refusal.message = known.message;
    return known;
  };
  return connection;
}

const refusals = new AsyncLocalStorage();

const POLICY = "new row violates row-level security policy";

/** Answer a request of Storage through `answer`, with what the database said of its refusal. */
async function withRefusal(answer) {
  const refusal = { message: POLICY };
  const response = await refusals.run(refusal, answer);
  if (response.status !== 400 || refusal.message.startsWith(POLICY)) return response;
  const error = await response.json();
  return withBody(response, error.message === POLICY ? { ...error, message: refusal.message } : error, response.status);
}

const redirectTo = new AsyncLocalStorage();

/** What sends Auth's mails: wherever the project sends them elsewhere, on this machine to the stack's mailbox. */
export function mailer(port) {
  const smtp = new SmtpEmailDriver({ host: "127.0.0.1", port, from: "Auth <auth@example.com>" });
  return { send: (mail) => smtp.send({ ...mail, text: redirected(mail.text), html: redirected(mail.html) }) };
}

// Whether it may lead there is decided when the link is opened.
function redirected(text) {
  const target = redirectTo.getStore();
  return target ? text?.replace(/(?<=[?&;]redirect_to=)[^"&<\s]+/g, () => encodeURIComponent(target)) : text;
}

class WrongRequest extends Error {}

/** What Storage and Auth say of a request that is not understood; each of their clients finds the message. */
function wrongRequest(message) {
  return Response.json({ statusCode: "400", code: 400, error: "invalid_request", message, msg: message }, { status: 400 });
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === "object") return value;
  } catch {} // no JSON
  throw new WrongRequest("The body is no JSON object");
}

/** Answer a request through `fetch`, the server's own handler. */
export async function mended(request, fetch) {
  if (request.method === "OPTIONS" && request.headers.has("access-control-request-method")) return preflight(request);
  const response = await answered(request, fetch).catch((error) => {
    if (!(error instanceof WrongRequest)) throw error;
    return wrongRequest(error.message);
  });
  const headers = new Headers(response.headers);
  headers.set("access-control-allow-origin", "*");
  headers.set("content-security-policy", "sandbox");
  headers.set("x-content-type-options", "nosniff");
  return new Response(response.body, { status: response.status, headers });
}

function preflight(request) {
  const headers = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "access-control-allow-headers": request.headers.get("access-control-request-headers") ?? "*",
    "access-control-max-age": "3600",
  };
  return new Response(null, { status: 204, headers });
}

// What is uploaded may call itself JSON and be none.
const isUpload = (pathname) => /^\/storage\/v1\/object\/(?!(list|sign|upload\/sign|copy|move)(\/|$))/.test(pathname);

/** The request, its JSON checked. */
async function checked(request, pathname) {
  const type = request.headers.get("content-type") ?? "";
  if (/^multipart\/form-data(?!.*boundary=)/i.test(type)) throw new WrongRequest("The form names no boundary");
  if (!/^\/(auth|storage)\/v1\//.test(pathname) || !/json/i.test(type) || isUpload(pathname)) return request;
  if (["GET", "HEAD"].includes(request.method)) return request;
  const body = await request.text();
  if (body || pathname.startsWith("/storage/v1/")) parsed(body);
  return new Request(request, { body });
}

async function answered(original, fetch) {
  const { pathname } = new URL(original.url);
  const request = await checked(original, pathname);
  if (pathname.startsWith("/storage/v1/object/"))
    return withRefusal(() => storage(request, pathname.slice(19), fetch));
  if (pathname.startsWith("/auth/v1/")) return auth(request, pathname, fetch);
  const response = await fetch(pathname.startsWith("/rest/v1/") ? withLiterals(request) : request);
  return response.status === 500 ? violatedCheck(response) : response;
}

function withLiterals(request) {
  const url = new URL(request.url);
  if (!/unknown/i.test(url.search)) return request;
  url.search = new URLSearchParams([...url.searchParams].map(([name, value]) => [name, withLiteral(value)])).toString();
  return new Request(url, request);
}

function withLiteral(value) {
  const list = /^((?:not\.)?in\.\()(.*)\)$/s.exec(value);
  if (list) return `${list[1]}${list[2].replace(/(?<=^|,)unknown(?=,|$)/gi, '"$&"')})`;
  return value.replace(/^((?:not\.)?(?:eq|neq)\.)(unknown)$/i, '$1"$2"');
}

async function violatedCheck(response) {
  const error = await response.clone().json().catch(() => null); // not every error is JSON
  const message = /^PostgresError: (.* violates check constraint ".*")$/.exec(error?.message)?.[1];
  return message ? withBody(response, { ...error, code: "23514", message }, 400) : response;
}

async function auth(request, pathname, fetch) {
  const target = new URL(request.url).searchParams.get("redirect_to");
  if (pathname !== "/auth/v1/verify" || request.method !== "POST") return redirectTo.run(target, () => fetch(request));
  const body = await request.text();
  const ofType = (type) =>
    fetch(new Request(request, { body: body.replace(/("type"\s*:\s*)"email"/, `$1"${type}"`) }));
  const response = await ofType("magiclink");
  return response.ok ? response : ofType("signup");
}

async function storage(request, path, fetch) {
  const type = request.headers.get("content-type") ?? "";
  if (request.method === "GET" && path.startsWith("sign/")) {
    const response = await fetch(request);
    return response.status === 500 ? wrongRequest("The signed URL is not valid") : response;
  }
  if (type.startsWith("multipart/form-data")) return fetch(await plainUpload(request));
  if (request.method !== "POST") return fetch(request);
  if (/^sign\/[^/]+\/?$/.test(path)) return signMany(request, fetch);
  if (/^(upload\/)?sign\//.test(path)) return changed(await fetch(request), signedUrl);
  if (!path.startsWith("list/")) return fetch(request);
  const body = await request.text();
  const { prefix } = parsed(body);
  const response = await fetch(new Request(request, { body }));
  return changed(response, (entries) => relativeNames(entries, prefix ?? ""));
}

async function changed(response, change) {
  return response.ok ? withBody(response, change(await response.json())) : response;
}

function withBody(response, body, status = response.status) {
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  return new Response(JSON.stringify(body), { status, headers });
}

async function plainUpload(request) {
  const form = await request.formData().catch(() => {
    throw new WrongRequest("The body is no form");
  });
  const file = [...form.values()].find((part) => part instanceof File) ?? new File([], "");
  const headers = new Headers(request.headers);
  headers.set("content-type", file.type || "application/octet-stream");
  headers.set("content-length", String(file.size));
  if (form.has("cacheControl")) headers.set("cache-control", `max-age=${form.get("cacheControl")}`);
  if (form.has("metadata")) headers.set("x-metadata", Buffer.from(form.get("metadata")).toString("base64"));
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

function signedUrl(entry) {
  const relative = entry.signedUrl.replace(/^\/storage\/v1/, "");
  return { ...entry, signedUrl: relative, signedURL: relative, url: relative };
}

async function signMany(request, fetch) {
  const { paths, ...options } = parsed(await request.text());
  if (!Array.isArray(paths) || !paths.every((path) => typeof path === "string" && path.isWellFormed()))
    throw new WrongRequest("The body has no paths");
  const headers = new Headers(request.headers);
  headers.delete("content-length");
  const sign = async (path) => {
    const url = `${request.url.replace(/\/$/, "")}/${path.split("/").map(encodeURIComponent).join("/")}`;
    const response = await fetch(new Request(url, { method: "POST", headers, body: JSON.stringify(options) }));
    const answer = await response.json();
    return response.ok ? { path, error: null, ...signedUrl(answer) } : { path, error: answer.message, signedURL: null };
  };
  return Response.json(await Promise.all(paths.map(sign)));
}
