"""Writes clients/database.types.ts from the migrations: `python -m local.typed_client`, or `make types`."""

import subprocess
import sys
import tempfile
from pathlib import Path

from local import supabase_cli
from local.environment import own
from local.errors import StackError
from local.packages import NODE
from local.stack import PROJECT, Stack

TYPES = PROJECT / "clients" / "database.types.ts"
HEADER = "// Written by `make types` from supabase/migrations; do not edit.\n\n"


def types_of(db_url: str) -> str:
    """What the file should say for the schema of this database."""
    prettier = PROJECT / "tests" / "node_modules" / "prettier" / "bin" / "prettier.cjs"
    done = subprocess.run(
        [str(NODE), str(prettier), "--parser", "typescript", "--print-width", "120"],
        input=supabase_cli.typescript_types(PROJECT, db_url),
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=own(),
    )
    if done.returncode != 0:
        raise StackError(f"The types could not be formatted: {done.stderr.strip()} Run: make install")
    return HEADER + done.stdout


def main() -> None:
    """Apply the migrations to a stack of its own, and write the file."""
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory))
        try:
            text = types_of(stack.up().db_url)
        finally:
            stack.down()
    TYPES.write_text(text, "utf-8")


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(str(error))
