"""Borders between the folders that no import shows; `make lint` holds the others."""

from local.stack import PROJECT


def test_supabase_holds_only_what_a_hosted_project_runs() -> None:
    folder = PROJECT / "supabase"
    made = {".temp", ".branches"}  # by the Supabase CLI, and ignored by git
    assert {path.name for path in folder.iterdir()} - made == {"config.toml", "migrations", "seed.sql"}
    assert {path.suffix for path in (folder / "migrations").iterdir()} == {".sql"}
