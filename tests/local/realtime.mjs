// What pages do with Realtime, through supabase-js. Run by test_realtime_clients.py; ends with 1 on a broken promise.
//
// The project tells users on their topics while it runs.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createClient, postgresChangesFilter } from "@supabase/supabase-js";

const { SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY } = process.env;
const newClient = () => createClient(SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, { auth: { persistSession: false } });
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};

async function until(condition, what, seconds = 10) {
  const deadline = Date.now() + seconds * 1000;
  while (!(await condition())) {
    assert(Date.now() < deadline, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Subscribe, and with changes wait until they are told. */
async function subscribed(channel, { changes = false } = {}) {
  const states = [];
  let isReady = !changes;
  channel.on("system", {}, ({ status, message }) => {
    assert.equal(status, "ok", message);
    isReady = true;
  });
  channel.subscribe((state, error) => states.push(error ? `${state}: ${error.message}` : state));
  await until(() => states.length > 0, "a state");
  assert.equal(states[0], "SUBSCRIBED");
  await until(() => isReady, "the system message");
  return channel;
}

async function person() {
  const client = newClient();
  const { user } = must(await client.auth.signUp({ email: `${randomUUID()}@example.com`, password: randomUUID() }));
  return { client, user };
}

const me = await person();
const stranger = await person();
const newImage = async (name) =>
  must(await me.client.from("images").insert({ user_id: me.user.id, original_filename: name }).select().single());

// Changes: mine, by filter, with the row before; a stranger sees none of it but the id of what was deleted.
{
  const seen = [];
  const overheard = [];
  const filter = postgresChangesFilter().eq("user_id", me.user.id).like("original_filename", "%.png");
  const changes = { schema: "public", table: "images" };
  await subscribed(
    me.client
      .channel("mine")
      .on("postgres_changes", { ...changes, event: "INSERT", filter }, (change) => seen.push(change))
      .on("postgres_changes", { ...changes, event: "UPDATE" }, (change) => seen.push(change))
      .on("postgres_changes", { ...changes, event: "DELETE" }, (change) => seen.push(change)),
    { changes: true },
  );
  await subscribed(
    stranger.client
      .channel("theirs")
      .on("postgres_changes", { event: "*", schema: "*" }, (change) => overheard.push(change)),
    { changes: true },
  );
  await newImage("note.txt");
  const image = await newImage("shirt.png");
  await until(() => seen.length === 1, "the insertion"); // a row is judged as it is when the change is told
  must(await me.client.from("images").update({ is_favorite: true }).eq("id", image.id));
  await until(() => seen.length === 2, "the update");
  must(await me.client.from("images").delete().eq("id", image.id));
  await until(() => seen.length === 3, "the deletion");
  assert.deepEqual(seen.map((change) => change.eventType), ["INSERT", "UPDATE", "DELETE"]);
  assert.deepEqual(seen[0].new, image);
  assert.equal(seen[1].new.is_favorite, true);
  assert.deepEqual(seen[2].old, { id: image.id });
  await until(() => overheard.length === 1, "the deletion at the stranger's");
  assert.deepEqual(overheard[0].old, { id: image.id });
  await me.client.removeAllChannels();
  await stranger.client.removeAllChannels();
}

// Broadcasts: JSON, bytes and over HTTP, to others and back to the sender.
{
  const heard = [];
  const config = { broadcast: { self: true, ack: true } };
  const mine = await subscribed(me.client.channel("room", { config }));
  await subscribed(stranger.client.channel("room").on("broadcast", { event: "*" }, (message) => heard.push(message)));
  mine.on("broadcast", { event: "hello" }, (message) => heard.push(message));
  assert.equal(await mine.send({ type: "broadcast", event: "hello", payload: { text: "ü" } }), "ok");
  await until(() => heard.length === 2, "a broadcast to both");
  assert.deepEqual(heard[0].payload, { text: "ü" });
  const bytes = new Uint8Array([0, 255]).buffer;
  assert.equal(await mine.send({ type: "broadcast", event: "raw", payload: bytes }), "ok");
  await until(() => heard.length === 3, "bytes");
  assert.deepEqual(new Uint8Array(heard[2].payload), new Uint8Array([0, 255]));
  assert.deepEqual(await mine.httpSend("post", { n: 1 }), { success: true });
  await until(() => heard.length === 4, "a broadcast over HTTP");
  assert.deepEqual([heard[3].event, heard[3].payload], ["post", { n: 1 }]);
  await me.client.removeAllChannels();
  await stranger.client.removeAllChannels();
}

// Presence: both see each other come and go.
{
  const join = (who, key) => {
    const channel = who.client.channel("lobby", { config: { presence: { key } } });
    channel.on("presence", { event: "sync" }, () => {});
    return subscribed(channel);
  };
  const [mine, theirs] = [await join(me, "me"), await join(stranger, "stranger")];
  const present = (channel) => Object.keys(channel.presenceState()).sort().join();
  assert.equal(await mine.track({ mood: "good" }), "ok");
  assert.equal(await theirs.track({ mood: "better" }), "ok");
  await until(() => present(mine) === "me,stranger" && present(theirs) === "me,stranger", "both");
  assert.equal(mine.presenceState().stranger[0].mood, "better");
  assert.equal(await theirs.untrack(), "ok");
  await until(() => present(mine) === "me", "the stranger gone");
  await me.client.removeAllChannels();
  await stranger.client.removeAllChannels();
}

// The private topic of a user: his alone, and told of what changes.
{
  const config = { private: true };
  const heard = [];
  const topic = `user:${me.user.id}`;
  const errors = [];
  stranger.client.channel(topic, { config }).subscribe((state, error) => errors.push(`${state} ${error?.message}`));
  await until(() => errors.length > 0, "a refusal");
  assert.match(errors[0], /CHANNEL_ERROR .*You do not have permissions to read from this Channel topic/);
  await stranger.client.removeAllChannels();
  const mine = me.client.channel(topic, { config }).on("broadcast", { event: "*" }, (message) => heard.push(message));
  await subscribed(mine);
  const image = await newImage("told.png");
  await until(() => heard.length === 1, "a message from the database");
  assert.equal(heard[0].event, "images");
  assert.deepEqual(
    { ...heard[0].payload, id: undefined },
    { table: "images", operation: "INSERT", record_id: image.id, id: undefined },
  );
  await me.client.removeAllChannels();
}

for (const { client } of [me, stranger]) {
  await client.realtime.disconnect();
  await client.auth.stopAutoRefresh();
}
process.exit(0);
