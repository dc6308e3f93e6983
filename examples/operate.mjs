// Signs up, uploads a picture, enlarges it to twice its size and saves the result.
//
//   node examples/operate.mjs picture.png enlarged.png

import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { createClient } from "@supabase/supabase-js";

const [source, target] = process.argv.slice(2);
const supabase = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_PUBLISHABLE_KEY);

function must({ data, error }) {
  if (error) throw error;
  return data;
}

const { user } = must(
  await supabase.auth.signUp({ email: `${crypto.randomUUID()}@example.com`, password: crypto.randomUUID() }),
);

const path = `${user.id}/${crypto.randomUUID()}`;
const file = new File([readFileSync(source)], basename(source), { type: "image/png" });
must(await supabase.storage.from("originals").upload(path, file));
const image = must(
  await supabase
    .from("images")
    .insert({ user_id: user.id, original_filename: file.name, original_url: `originals/${path}` })
    .select()
    .single(),
);

let operation = must(
  await supabase.rpc("request_image_operation", {
    p_image_id: image.id,
    p_operation_type: "upscale",
    p_options: { scale: 2 },
    p_idempotency_key: crypto.randomUUID(),
  }),
);
while (["pending", "processing"].includes(operation.status)) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  operation = must(await supabase.from("image_operations").select().eq("id", operation.id).single());
}
if (operation.status !== "completed") throw new Error(operation.error_message);

const result = must(await supabase.storage.from("results").download(operation.output_data.url.replace("results/", "")));
writeFileSync(target, Buffer.from(await result.arrayBuffer()));
console.log(`${target}: ${operation.output_data.width} x ${operation.output_data.height} pixels`);
