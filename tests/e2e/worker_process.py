"""A worker as an operator runs it: a process of its own on a running stack."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.stack import PROJECT, StackStatus

FAKE_ENGINES = "tests.services.pool_runners:FakeRunner"
RUN_WITH_FAKES = f"""
import sys, time
from services.images.__main__ import main
true_time, error = time.time, float(sys.argv[1])
time.time = lambda: true_time() + error
sys.exit(main({FAKE_ENGINES!r}))
"""


class WorkerProcess:
    """`python -m services.images`, with fake engines unless told otherwise.

    `url` stands in for the stack's own. By `clock_error` seconds the clock of a worker with fake engines is wrong.
    """

    def __init__(
        self,
        stack: StackStatus,
        log: Path,
        *,
        real: bool,
        url: str | None = None,
        clock_error: float = 0,
        **settings: Any,
    ) -> None:
        self.log = log
        variables = {"CONCURRENCY": 1, "LEASE_SECONDS": 2, "POLL_SECONDS": 0.3, "SHUTDOWN_GRACE_SECONDS": 10} | settings
        command = ["-m", "services.images"] if real else ["-c", RUN_WITH_FAKES, str(clock_error)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=PROJECT,
                stdout=output,
                stderr=output,
                env=os.environ
                | {"SUPABASE_URL": url or stack.api_url, "SUPABASE_SECRET_KEY": stack.secret_key}
                | {f"WORKER_{name}": str(value) for name, value in variables.items()},
            )
        until(lambda: self.said("worker_started") or self.process.poll() is not None, 60)
        assert self.process.poll() is None, log.read_text()

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        return self.process.wait(seconds)


def until(condition: Callable[[], Any], seconds: float = 20) -> float:
    """Wait for a condition; returns how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "the condition did not come true"
        time.sleep(0.02)
    return time.monotonic() - started
