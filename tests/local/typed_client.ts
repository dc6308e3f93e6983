// Compiled, never run: what the types of the schema let pass, and what they refuse.
// A `@ts-expect-error` over a line without an error is an error of its own.

import { createClient } from "@supabase/supabase-js";
import type { Database } from "../../clients/database.types";

const supabase = createClient<Database>("http://127.0.0.1", "sb_publishable_x");

export async function requestsAndReads(imageId: string): Promise<string> {
  const requested = await supabase.rpc("request_image_operation", {
    p_image_id: imageId,
    p_operation_type: "upscale",
    p_options: { scale: 2 },
    p_idempotency_key: "a",
  });
  if (requested.error) throw requested.error;

  const read = await supabase
    .from("image_operations")
    .select("status, credits_used, images (original_filename)")
    .eq("id", requested.data.id)
    .single();
  if (read.error) throw read.error;
  const credits: number | null = read.data.credits_used;
  return `${read.data.images.original_filename}: ${read.data.status}, ${credits}`;
}

export async function generates(): Promise<number | null> {
  const { data, error } = await supabase.rpc("request_image_operation", {
    p_image_id: null!,
    p_operation_type: "generate",
    p_options: { prompt: "HELLO" },
  });
  if (error) throw error;
  return data.credits_used;
}

export async function isRefused(userId: string): Promise<void> {
  // @ts-expect-error: an argument is missing
  await supabase.rpc("request_image_operation", { p_image_id: "a" });
  // @ts-expect-error: there is no such function
  await supabase.rpc("request_image_operations", {});
  // @ts-expect-error: there is no such table
  await supabase.from("image");
  // @ts-expect-error: the file name is missing
  await supabase.from("images").insert({ user_id: userId });
  // @ts-expect-error: a number is no name
  await supabase.from("profiles").update({ first_name: 1 }).eq("id", userId);
}
