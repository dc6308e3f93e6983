"""What there is to know of a kind of operation stands in its row and its engine: nothing else names one."""

import re

import pytest

from local.stack import PROJECT
from services.images.engines import engine_paths, load_engine

FOLDERS = ("supabase", "services", "local", "cli", "web")
SUFFIXES = {".py", ".sql", ".js", ".mjs", ".html"}
# Besides the engines: what providers cost, and the demo, which plays with four of them.
NAMING = {"supabase/seed.sql", "cli/demo.py"}
# A row of a kind, made or changed.
ROW = re.compile(r"^(insert into|update) public\.operation_types\b.*?;$", re.DOTALL | re.MULTILINE)


def engine_files() -> set[str]:
    """The modules of the engines, and the helper that an engine may keep its constant in."""
    modules = {path.partition(":")[0] for path in engine_paths()}
    return {f"{module.replace('.', '/')}.py" for module in modules}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_other_code_names_a_kind(folder: str) -> None:
    kinds = {load_engine(path).operation_type for path in engine_paths()}  # type: ignore[attr-defined]
    assert len(kinds) >= 4
    named = re.compile(rf"""(["'])({"|".join(kinds)})\1""")
    allowed = NAMING | engine_files()
    found = [
        f"{path}: {match[0]}"
        for file in sorted((PROJECT / folder).rglob("*"))
        if file.suffix in SUFFIXES and "vendor" not in file.parts
        for path in [str(file.relative_to(PROJECT))]
        if path not in allowed
        for match in [named.search(ROW.sub("", file.read_text()))]
        if match
    ]
    assert found == [], "Ask its row instead, or say it in the words of the row."
