// The project URL of the embedded stack: /rest/v1, /auth/v1 and /storage/v1 served by @supabase/lite.
//
// Usage: node gateway.mjs <stack directory> [--provision]
//
// Reads <stack directory>/gateway.json (written by cli/local/gateway.py). With --provision it only creates the
// `auth` and `storage` schemas, which a hosted project has before its first migration, and exits.
//
// What @supabase/lite 0.10.0 does differently from a hosted project is mended here and nowhere else:
//   - timestamps leave as ISO 8601 (`2026-01-02T03:04:05.6+00:00`), as PostgREST writes them;
//   - signed URLs are also named `signedURL` and are relative to /storage/v1, as the Storage API names them;
//   - an object, array, number or boolean passed to a jsonb argument of an RPC arrives as such, not as a string;
//   - the first request no longer grants everything on every table to anon, authenticated and service_role: the
//     roles are made by bootstrap.sql, and what they may do is decided by the migrations alone;
//   - /realtime/v1 says clearly that nothing listens there yet;
//   - the postgres driver may throw outside any request when its server goes away (a write to a socket that is gone):
//     the serving process then ends, and its parent starts the next.

import cluster from "node:cluster";
import { readFileSync } from "node:fs";
import { chdir } from "node:process";
import { serve } from "@hono/node-server";
import { createApi } from "@supabase/lite/cli";
import { createPostgresConnection } from "@supabase/lite/postgres";

const [directory, flag] = process.argv.slice(2);
const settings = JSON.parse(readFileSync(`${directory}/gateway.json`, "utf8"));
chdir(settings.project_directory); // @supabase/lite keeps its files below the working directory

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
  jsonb: { to: 3802, from: [3802], serialize: jsonText, parse: (text) => JSON.parse(text) },
  timestamptz: { to: 1184, from: [1184], serialize: (value) => value, parse: isoTimestamp },
};

function connect() {
  const connection = createPostgresConnection({
    url: settings.database_url,
    postgresOptions: {
      max: settings.database_connections,
      types: postgresTypes,
      onnotice: () => {},
      backoff: () => 0.2, // seconds; its own goes up to 20, long after the database is back
    },
  });
  connection.rlsState = "active"; // "unknown" makes it create roles and grant them everything
  return connection;
}

async function createApp() {
  const api = await createApi({ root: settings.project_directory });
  const readConfig = api.project.local.readConfig.bind(api.project.local);
  api.project.local.readConfig = async (path) => ({
    ...(await readConfig(path)),
    connection: connect(),
  });
  return api.project.local.createApp(undefined, { admin: false });
}

/** The Storage API's own name and form for a signed URL; storage3 reads `signedURL`, storage-js both. */
function withSignedUrlAsHosted(entry) {
  if (typeof entry?.signedUrl !== "string") return entry;
  const relative = entry.signedUrl.replace(/^\/storage\/v1/, "");
  return { ...entry, signedUrl: relative, signedURL: relative };
}

async function mendSignedUrls(response) {
  const body = await response.json();
  const mended = Array.isArray(body) ? body.map(withSignedUrlAsHosted) : withSignedUrlAsHosted(body);
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  return new Response(JSON.stringify(mended), { status: response.status, headers });
}

function realtimeUnavailable() {
  const message = "Realtime is not part of the local stack yet; poll, or use a hosted project.";
  return Response.json({ error: "realtime_unavailable", message }, { status: 503 });
}

function answer(app) {
  return async (request, env) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return Response.json({ status: "ok" });
    if (pathname.startsWith("/realtime/v1")) return realtimeUnavailable();
    const response = await app.fetch(request, { peerAddress: env.incoming.socket.remoteAddress ?? null });
    const signs = request.method === "POST" && /^\/storage\/v1\/object\/(upload\/)?sign\//.test(pathname);
    return signs && response.ok ? mendSignedUrls(response) : response;
  };
}

/** Keep one serving process alive: a crash costs the requests under way, new ones wait for the next process. */
function supervise() {
  let hasServed = false;
  cluster.on("listening", () => (hasServed = true));
  cluster.on("exit", (_worker, status) => (hasServed ? cluster.fork() : process.exit(status ?? 1)));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
  cluster.fork();
}

async function serveRequests() {
  const app = await createApp();
  const server = serve({ fetch: answer(app), port: settings.port, hostname: "127.0.0.1" });
  server.on("error", (error) => {
    console.error(`The gateway cannot listen on 127.0.0.1:${settings.port}: ${error.message}`);
    process.exit(1);
  });
}

async function provision() {
  const app = await createApp();
  await app.ensureSystemSchema();
  process.exit(0);
}

if (flag === "--provision") await provision();
else if (cluster.isPrimary) supervise();
else await serveRequests();
