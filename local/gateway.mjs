// The project URL of the embedded stack: /rest/v1, /auth/v1 and /storage/v1 served by @supabase/lite, /realtime/v1
// handed on to the Realtime server (realtime.mjs), and the web client (web.mjs).
//
// Usage: node gateway.mjs <stack directory> [--provision]
//
// Reads <stack directory>/gateway.json (written by local/gateway.py). With --provision it only creates the
// `auth` and `storage` schemas, which a hosted project has before its first migration, and exits.
// What the server does differently from a hosted project is mended in mends.mjs.

import cluster from "node:cluster";
import { readFileSync } from "node:fs";
import { chdir } from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "@hono/node-server";
import { createApi } from "@supabase/lite/cli";
import postgres from "postgres";
import { connect, mailer, mended } from "./mends.mjs";
import { forward, forwardUpgrades } from "./realtime.mjs";
import { webClient } from "./web.mjs";

const [directory, flag] = process.argv.slice(2);
const settings = JSON.parse(readFileSync(`${directory}/gateway.json`, "utf8"));
chdir(settings.project_directory); // @supabase/lite keeps its files below the working directory

/** Create the app, or end with one sentence: the server's own word for a key that it does not know is all settings. */
async function createApp() {
  return readConfigAndCreateApp().catch((error) => {
    if (error.name !== "InvalidSchemaError") throw error;
    const [{ instanceLocation, keywordLocation, error: reason, data }] = error.errors;
    const [unknown] = keywordLocation.endsWith("/additionalProperties") ? Object.keys(data) : [];
    const name = [...instanceLocation.split("/"), unknown].filter(Boolean).join(".");
    const trouble = unknown ? "the stack on this machine does not know it" : reason;
    console.error(`Error in supabase/config.toml: ${name}: ${trouble}. Change it, or leave it out.`);
    process.exit(1);
  });
}

async function readConfigAndCreateApp() {
  const api = await createApi({ root: settings.project_directory });
  const readConfig = api.project.local.readConfig.bind(api.project.local);
  api.project.local.readConfig = async (path) => ({
    ...(await readConfig(path)),
    connection: connect(settings.database_url, settings.database_connections),
    options: { drivers: { email: mailer(settings.smtp_port) } },
  });
  return api.project.local.createApp(undefined, { admin: false });
}

/**
 * The database. Before it has answered a first time, the server knows no schema and would say of every table and
 * function that there is none, which clients take for final; PostgREST is not available meanwhile.
 */
const database = {
  hasAnswered: false,
  async ask() {
    const sql = postgres(settings.database_url, { max: 1, connect_timeout: 3, backoff: () => 0 });
    this.hasAnswered = await sql`select`.then(() => true, () => false);
    await sql.end({ timeout: 0 });
    return this.hasAnswered;
  },
  async waitFor() {
    while (!(await this.ask())) await sleep(200);
  },
};

const NO_SCHEMA = { code: "PGRST002", message: "Could not query the database for the schema cache. Retrying." };

function answer(app) {
  return async (request, env) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return Response.json({ status: "ok" });
    if (pathname.startsWith("/realtime/v1/")) {
      return mended(request, (inner) => forward(inner, settings.realtime_port));
    }
    const page = await webClient(request, settings);
    if (page) return page;
    if (!database.hasAnswered) {
      return mended(request, async () => Response.json({ ...NO_SCHEMA, details: null, hint: null }, { status: 503 }));
    }
    const peerAddress = env.incoming.socket.remoteAddress ?? null;
    return mended(request, (inner) => app.fetch(inner, { peerAddress }));
  };
}

/**
 * Keep one serving process alive. The postgres driver may throw outside any request when its server goes away (a
 * write to a socket that is gone). That costs the requests under way; new ones wait for the next process.
 */
function supervise() {
  let hasServed = false;
  cluster.on("listening", () => (hasServed = true));
  cluster.on("exit", (_worker, status) => (hasServed ? cluster.fork() : process.exit(status ?? 1)));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
  cluster.fork();
}

async function serveRequests() {
  const app = await createApp();
  if (!(await database.ask())) void database.waitFor();
  const server = serve({ fetch: answer(app), port: settings.port, hostname: "127.0.0.1" });
  server.on("error", (error) => {
    console.error(`The gateway cannot listen on 127.0.0.1:${settings.port}: ${error.message}`);
    process.exit(1);
  });
  forwardUpgrades(server, settings.realtime_port);
}

async function provision() {
  const app = await createApp();
  await app.ensureSystemSchema();
  process.exit(0);
}

if (flag === "--provision") await provision();
else if (cluster.isPrimary) supervise();
else await serveRequests();
