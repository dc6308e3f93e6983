"""Starts the peers, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from local.gateway import node_environment
from local.packages import NODE
from local.stack import PROJECT
from tests.benchmarks.server import LONGEST_RUN, Database

_PYTHON = [sys.executable, "-m"]
COMMANDS = {
    "procrastinate": [*_PYTHON, "tests.benchmarks.peers.procrastinate_worker"],
    "pgqueuer": [*_PYTHON, "tests.benchmarks.peers.pgqueuer_worker"],
    "graphile-worker": [str(NODE), str(Path(__file__).with_name("graphile_worker.mjs"))],
}


def install(database: Database) -> None:
    """Create the tables of every peer."""
    for name in COMMANDS:
        _run(name, database, "install", 0)


def drain(name: str, database: Database, jobs: int) -> float:
    """Jobs a second that one worker process does when `jobs` wait."""
    return float(_run(name, database, "drain", jobs))


def pick_ups(name: str, database: Database, jobs: int) -> tuple[float, ...]:
    """Milliseconds from the commit of a job that arrives alone to its start, once for each of `jobs`."""
    return tuple(_run(name, database, "pick_up", jobs))


def _run(name: str, database: Database, command: str, jobs: int) -> Any:
    address, environment = database.on_command_line()
    done = subprocess.run(
        [*COMMANDS[name], address, command, str(jobs)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_RUN,
        cwd=PROJECT,
        env=environment | node_environment(),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} {command} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout or "null")
