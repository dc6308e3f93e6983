// What supabase-js does in a browser, against the stack at SUPABASE_URL. Exits with an error at the first difference.

import assert from "node:assert/strict";
import { createClient } from "@supabase/supabase-js";

const supabase = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_PUBLISHABLE_KEY);
const credentials = { email: `${crypto.randomUUID()}@example.com`, password: "correct horse battery" };
const files = supabase.storage.from("originals");

async function ok(call) {
  const { data, error } = await call;
  assert.equal(error, null);
  return data;
}

const { user } = await ok(supabase.auth.signUp(credentials));
const picture = (text) => new File([text], "picture.png", { type: "image/png" });
const read = async (key) => (await ok(files.download(key))).text();

// A session can be ended, begun again and renewed.
await supabase.auth.signOut();
assert.equal((await supabase.auth.getSession()).data.session, null);
await ok(supabase.auth.signInWithPassword(credentials));
await ok(supabase.auth.refreshSession());
assert.equal((await ok(supabase.auth.getUser())).user.id, user.id);

// Rows: embedding, counting, a single object, an error with its details.
const profile = await ok(supabase.from("profiles").select("id, credit_transactions(amount)").single());
assert.deepEqual(profile, { id: user.id, credit_transactions: [{ amount: 2 }] });
const { count } = await supabase.from("operation_types").select("*", { count: "exact", head: true });
assert.equal(count, 5);
const refused = await supabase.rpc("request_image_operation", { p_image_id: null, p_operation_type: "nonsense" });
assert.equal(refused.status, 400);
assert.equal(typeof JSON.parse(refused.error.details), "object");

const empty = await supabase.from("image_collections").insert({ name: "" });
assert.deepEqual([empty.status, empty.error.code, empty.error.message], [400, "PT400", "name is empty"]);

// Files: uploaded as a browser does (a form whose file has no name), replaced, listed, signed for up- and download.
const key = `${user.id}/one.png`;
await ok(files.upload(key, picture("first"), { cacheControl: "60" }));
assert.equal((await files.upload(key, picture("again"))).error.statusCode, "409");
assert.equal(await read(key), "first");
await ok(files.update(key, picture("second")));
assert.equal(await read(key), "second");
await ok(files.upload(`${user.id}/folder/two.png`, picture("two")));
const listed = await ok(files.list(user.id));
assert.deepEqual(listed.map(({ name, id }) => [name, id === null]).sort(), [["folder", true], ["one.png", false]]);
assert.equal(listed.find(({ name }) => name === "one.png").metadata.mimetype, "image/png");

const signed = await ok(files.createSignedUrl(key, 60));
assert.equal(await (await fetch(signed.signedUrl)).text(), "second");
const [there, missing] = await ok(files.createSignedUrls([key, `${user.id}/missing.png`], 60));
assert.equal(await (await fetch(there.signedUrl)).text(), "second");
// A page of another origin may ask, and read every answer.
const preflight = await fetch(`${process.env.SUPABASE_URL}/auth/v1/token`, {
  method: "OPTIONS",
  headers: {
    origin: "http://page.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "apikey,content-type",
  },
});
assert.deepEqual([preflight.ok, preflight.headers.get("access-control-allow-headers")], [true, "apikey,content-type"]);
for (const path of ["rest/v1/operation_types", "auth/v1/user", "storage/v1/object/sign/originals"]) {
  const sign = path.startsWith("storage");
  const response = await fetch(`${process.env.SUPABASE_URL}/${path}`, {
    method: sign ? "POST" : "GET",
    body: sign ? JSON.stringify({ paths: [key], expiresIn: 60 }) : undefined,
    headers: {
      apikey: process.env.SUPABASE_PUBLISHABLE_KEY,
      authorization: `Bearer ${(await supabase.auth.getSession()).data.session.access_token}`,
      "content-type": "application/json",
      origin: "http://page.example",
    },
  });
  assert.deepEqual([path, response.status, response.headers.get("access-control-allow-origin")], [path, 200, "*"]);
}
assert.deepEqual([typeof missing.error, missing.signedUrl], ["string", null]);
const { token } = await ok(files.createSignedUploadUrl(`${user.id}/three.png`));
await ok(files.uploadToSignedUrl(`${user.id}/three.png`, token, picture("three")));
assert.equal(await read(`${user.id}/three.png`), "three");
await ok(files.remove([key]));
assert.notEqual((await files.download(key)).error, null);
