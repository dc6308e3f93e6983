"""What a call costs in instructions of the backend: the same on every machine, however busy it is.

Counted by valgrind's callgrind (Debian: valgrind) from a Postgres that runs under it. A session of 20 calls is taken
from one of 120, so that what a session does once drops out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import postgres
from tests.benchmarks.measure import Figure, Progress
from tests.benchmarks.server import Database, Server

SECTION = "Instructions of the backend"
PEOPLE = 200
FEW, MANY = 20, 120  # calls of the two sessions
START_SECONDS = 120
DUMP_SECONDS = 30

# Role, statement, and how many times as much as the ceiling it may take. A request took 3.54 times as much before kinds
# of operations were rows, of which 1.05 is allowed.
CALLS = {
    "deduct": ("service_role", "select public.deduct_user_credits(%s, 1, 'usage')", 2.05),
    "request": ("authenticated", "select api.request(%s)", 3.54 * 1.05),
}
CEILING = ("service_role", "select ceiling.post(%s, -1, 'usage')")


def run(server: Server, report: Progress) -> Iterator[Figure]:
    """A deduct and a request beside an update and an insert by hand. Nothing where valgrind is not installed."""
    if shutil.which("valgrind") is None:
        report("instructions: valgrind is not installed, so none were counted")
        return
    database = server.base.clone("instructions")
    for file in ("people.sql", "ceiling.sql", "minimal_queue.sql", "requests.sql"):
        database.run(file, people=PEOPLE)
    database.settle()
    with _under_callgrind(server) as dumps:
        report("counting instructions: the ceiling")
        ceiling = _count(database, dumps, *CEILING)
        for name, (role, statement, goal) in CALLS.items():
            report(f"counting instructions: {name}")
            ours = _count(database, dumps, role, statement)
            yield Figure(SECTION, name, (ours,), "update + insert", (ceiling,), "k", goal, at_most=True)


@contextmanager
def _under_callgrind(server: Server) -> Iterator[Path]:
    """Meanwhile the server runs under callgrind; yields the folder where each backend leaves its count."""
    ours = server.stack.postgres
    ours.stop()
    settings = postgres.SETTINGS | {"jit": "off", "autovacuum": "off"}
    # fmt: off
    command = [
        *postgres.as_allowed_user(), "valgrind", "--tool=callgrind", f"--callgrind-out-file={ours.directory}/calls.%p",
        str(ours.binaries / "postgres"), "-D", str(ours.data), "-p", str(server.stack.state.postgres_port),
        *(item for name, value in settings.items() for item in ("-c", f"{name}={value}")),
    ]
    # fmt: on
    with (ours.directory / "valgrind.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TZ": "UTC"})
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ours.running():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Postgres does not start under valgrind: see {ours.directory}/valgrind.log")
            time.sleep(0.5)
        yield ours.directory
    finally:
        ours.stop()
        process.wait(DUMP_SECONDS)
        ours.start()


def _count(database: Database, dumps: Path, role: str, statement: str) -> float:
    """Thousands of instructions that one call takes."""
    few, many = (_session(database, dumps, role, statement, calls) for calls in (FEW, MANY))
    return (many - few) / (MANY - FEW) / 1000


def _session(database: Database, dumps: Path, role: str, statement: str, calls: int) -> int:
    """Instructions of a whole session that makes so many calls, each for another account."""
    with database.connect(role) as connection:
        backend = connection.info.backend_pid
        for number in range(1, calls + 1):
            connection.execute(statement, (f"{number:032x}",), prepare=True)
    deadline = time.monotonic() + DUMP_SECONDS
    while time.monotonic() < deadline:
        dump = dumps / f"calls.{backend}"
        found = re.search(r"^totals: (\d+)", dump.read_text(errors="replace"), re.M) if dump.exists() else None
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise RuntimeError(f"The backend {backend} left no count of its instructions in {dumps}.")
