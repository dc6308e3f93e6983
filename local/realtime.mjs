// The way to the Realtime server, which listens on a port of its own.

import { connect } from "node:net";

const UNAVAILABLE = JSON.stringify({ error: "Realtime does not answer. See what is wrong with: dtf logs" });

/** Hand an HTTP request on. */
export async function forward(request, port) {
  const url = new URL(request.url);
  url.host = `127.0.0.1:${port}`;
  url.protocol = "http:";
  const headers = new Headers(request.headers);
  headers.delete("expect"); // fetch refuses to send it
  try {
    return await fetch(new Request(url, request), { redirect: "manual", headers });
  } catch {
    return new Response(UNAVAILABLE, { status: 503, headers: { "content-type": "application/json" } });
  }
}

/** Hand websockets on, byte for byte: a slow client slows the server down, and nothing piles up here. */
export function forwardUpgrades(server, port) {
  server.on("upgrade", (request, client, head) => {
    const refuse = (status, body) => {
      const headers = ["content-type: application/json", `content-length: ${Buffer.byteLength(body)}`];
      client.end([`HTTP/1.1 ${status}`, ...headers, "connection: close", "", body].join("\r\n"));
    };
    client.on("error", () => client.destroy());
    if (!request.url.startsWith("/realtime/v1/websocket")) return refuse("404 Not Found", "{}");
    const upstream = connect(port, "127.0.0.1");
    let isConnected = false;
    upstream.on("connect", () => {
      isConnected = true;
      const headers = [];
      for (let i = 0; i < request.rawHeaders.length; i += 2) {
        headers.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
      }
      upstream.write([`GET ${request.url} HTTP/1.1`, ...headers, "", ""].join("\r\n"));
      upstream.write(head);
      client.pipe(upstream);
      upstream.pipe(client);
    });
    upstream.on("error", () => (isConnected ? client.destroy() : refuse("503 Service Unavailable", UNAVAILABLE)));
    upstream.on("close", () => client.destroySoon());
    client.on("close", () => upstream.destroy());
  });
}
