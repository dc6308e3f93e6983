"""The local Supabase stack behind `dtf up`."""
