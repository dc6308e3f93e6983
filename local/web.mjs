// The web client at the project URL: the files of web/, the packages they import, and where the API is.
// Beside the API it is a page of the same origin, so its policy can forbid it to talk to anything else but billing.

import { readFile, stat } from "node:fs/promises";
import { extname } from "node:path";

const PAGES = new URL("../web/", import.meta.url);
const PACKAGES = new URL("../node_modules/", import.meta.url);

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

const headersOf = (billingUrl) => ({
  // Ask every time, answered with 304 where nothing changed: an edit shows at the next reload.
  "cache-control": "no-cache",
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    `connect-src 'self' ${billingUrl && new URL(billingUrl).origin}`.trimEnd(),
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; "),
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
});

/** The file behind a path, or null. No dot begins a segment, so nothing leads out of the folders. */
function fileBehind(pathname) {
  if (pathname === "/") return new URL("index.html", PAGES);
  if (!/^(\/[\w-][\w.-]*)+$/.test(pathname) || !(extname(pathname) in TYPES)) return null;
  if (pathname === "/vendor/supabase.js") return new URL("@supabase/supabase-js/dist/umd/supabase.js", PACKAGES);
  if (pathname.startsWith("/vendor/lit-html/")) return new URL(pathname.slice("/vendor/".length), PACKAGES);
  return new URL(pathname.slice(1), PAGES);
}

/** The answer to a request for the web client, or null where the path is none of its. */
export async function webClient(request, { publishable_key: publishableKey, billing_url: billingUrl }) {
  const { origin, pathname } = new URL(request.url);
  if (!["GET", "HEAD"].includes(request.method)) return null;
  const common = headersOf(billingUrl);
  if (pathname === "/config.json") {
    const config = { url: origin, publishableKey, ...(billingUrl && { billingUrl }) };
    return Response.json(config, { headers: common });
  }
  const file = fileBehind(pathname);
  const found = file && (await stat(file).catch(() => null));
  if (!found?.isFile()) return null;
  const headers = {
    ...common,
    "content-type": TYPES[extname(file.pathname)],
    etag: `"${found.mtimeMs}-${found.size}"`,
  };
  if (request.headers.get("if-none-match") === headers.etag) return new Response(null, { status: 304, headers });
  return new Response(request.method === "HEAD" ? null : await readFile(file), { headers });
}
