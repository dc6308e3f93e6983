"""Stacks for tests, each with empty tables, as copies of one that was made before.

Making a stack takes most of the time of a single test. What it is made from decides whether it can be used again.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from local.packages import POSTGRES
from local.stack import PROJECT, Stack
from local.state import StackState

TEMPLATES = PROJECT / ".dtf" / "templates"
STATE = "state.json"


def new_stack(directory: Path, binaries: Path = POSTGRES) -> Stack:
    """A running stack in `directory`, whose data of before are deleted, on the Postgres in `binaries`."""
    Stack(directory, binaries=binaries).down()
    shutil.rmtree(directory, ignore_errors=True)
    template = _template(binaries)
    # Its own lock, log files and ports; passwords and keys are in the data.
    shutil.copytree(template, directory, ignore=shutil.ignore_patterns("lock", "*.log"))
    state = replace(
        StackState.load(template / STATE), postgres_port=0, api_port=0, realtime_port=0, smtp_port=0, mail_port=0
    )
    state.save(directory / STATE)
    stack = Stack(directory, binaries=binaries)
    stack.up()
    return stack


def _template(binaries: Path) -> Path:
    """The folder of a stopped stack with the migrations of now, made where it is missing."""
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    digest = _digest(binaries)
    template = TEMPLATES / digest
    with (TEMPLATES / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            for old in TEMPLATES.glob(f"{digest.partition('-')[0]}-*/"):
                Stack(old, binaries=binaries).down()  # a draft that somebody was killed over
                shutil.rmtree(old)
            draft = Stack(TEMPLATES / f"{digest}.new", binaries=binaries)
            draft.up()
            draft.down()
            draft.directory.rename(template)
    return template


def _digest(binaries: Path) -> str:
    """Names what a stack is made from: the Postgres, and the text of everything that fills it."""
    place = hashlib.sha256(str(binaries).encode()).hexdigest()[:8]
    text = hashlib.sha256()
    for path in sorted(_ingredients()):
        text.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
    return f"{place}-{text.hexdigest()[:16]}"


def _ingredients() -> Iterator[Path]:
    yield from (path for path in (PROJECT / "supabase").rglob("*") if path.is_file() and ".temp" not in path.parts)
    yield from (path for path in (PROJECT / "local").rglob("*") if path.suffix in {".py", ".mjs", ".sql"})
    yield from (PROJECT / name for name in ("package-lock.json", "requirements.lock"))
