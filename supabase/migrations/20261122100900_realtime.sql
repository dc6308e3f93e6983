-- Realtime: the tables whose changes browsers and workers listen to. Row level security decides who sees which row.
-- Supabase makes the publication; an event is a signal to read again, never the only way to learn of a change.

alter publication supabase_realtime
add table public.profiles, public.images, public.image_operations, public.credit_transactions;
