"""The types for clients: those of the migrations, and of use to who writes TypeScript."""

import difflib
import subprocess

from local.packages import NODE
from local.stack import PROJECT, StackStatus
from local.typed_client import TYPES, types_of


def test_the_types_are_those_of_the_migrations(stack: StackStatus) -> None:
    committed, made = TYPES.read_text().splitlines(), types_of(stack.db_url).splitlines()
    difference = "\n".join(difflib.unified_diff(committed, made, str(TYPES), "the database", n=1, lineterm=""))
    assert not difference, f"{difference}\nWrite them anew with: make types"


def test_a_typed_client_compiles_and_its_mistakes_do_not() -> None:
    # fmt: off
    done = subprocess.run(
        [str(NODE), "tests/node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck",
         "--target", "es2022", "--module", "preserve", "--moduleResolution", "bundler", "--lib", "es2023,dom",
         "tests/local/typed_client.ts"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )
    # fmt: on
    assert done.returncode == 0, done.stdout
