"""How soon the worker starts an operation that arrives alone: with Realtime and without, at rest and under requests.

From the acknowledged commit of the request to the call of the engine, through everything that lies between: the
write-ahead log, Realtime, the gateway, the claim, the child process. The worker is the real one, with an engine that
notes when it is called.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from psycopg.types.json import Jsonb

from local.stack import PROJECT, StackStatus
from services.images.engines import EngineResult
from tests.benchmarks.measure import Figure, Progress
from tests.benchmarks.server import Server
from tests.services.pool_runners import FakeRunner

SECTION = "The worker's pick-up of an operation that arrives alone"
WITH_REALTIME, WITHOUT = 30, 8  # pick-ups; one without takes a pause of the worker, which is 5 s
REQUESTS_PER_SECOND = 50
MARK = "engine called"
LONGEST_WAIT = 60.0  # seconds
RUN = "import sys; from services.images.__main__ import main; sys.exit(main('tests.benchmarks.wakeup:NotingRunner'))"


class NotingRunner(FakeRunner):
    """Runs in the worker's child process: says when, then does nothing."""

    def __call__(self, operation_type: str, source: bytes | None, options: dict[str, Any]) -> EngineResult:
        print(MARK, options["prompt"], time.time(), file=sys.stderr, flush=True)
        return super().__call__(operation_type, source, options)


def run(server: Server, report: Progress) -> Iterator[Figure]:
    """Half of the pick-ups, and 19 of 20, with Realtime beside those without."""
    with server.whole_stack() as stack:
        waits: dict[tuple[bool, bool], list[float]] = {}
        for has_realtime in (True, False):
            if not has_realtime:
                server.stack.realtime.stop()
            with _worker(stack) as log:
                for is_busy in (False, True):
                    report(f"pick-up, Realtime {'up' if has_realtime else 'down'}, {_load(is_busy)}")
                    count = WITH_REALTIME if has_realtime else WITHOUT
                    waits[has_realtime, is_busy] = _pick_ups(stack, log, count, is_busy=is_busy)
    for is_busy in (False, True):
        for what, percent in (("half", 50), ("19 of 20", 95)):
            up, down = (quantiles(waits[has_realtime, is_busy], n=100)[percent - 1] for has_realtime in (True, False))
            yield Figure(
                SECTION, f"{_load(is_busy)}: {what} within", (up,), "Realtime down", (down,), "ms", at_most=True
            )


def _load(is_busy: bool) -> str:
    return f"{REQUESTS_PER_SECOND} requests a second" if is_busy else "idle"


@contextmanager
def _worker(stack: StackStatus) -> Iterator[Path]:
    """A worker with its usual settings, up and listening; gives its log."""
    log = PROJECT / ".dtf" / "bench-worker.log"
    variables = {"SUPABASE_URL": stack.api_url, "SUPABASE_SECRET_KEY": stack.secret_key, "WORKER_CONCURRENCY": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN], cwd=PROJECT, stdout=output, stderr=output, env=os.environ | variables
        )
    try:
        _wait(lambda: "realtime_subscribed" in log.read_text() or "realtime_away" in log.read_text())
        yield log
    finally:
        process.terminate()
        process.wait()
        log.unlink()


def _pick_ups(stack: StackStatus, log: Path, count: int, *, is_busy: bool) -> list[float]:
    """Milliseconds from commit to call, for operations that come one by one."""
    over = threading.Event()
    load = threading.Thread(target=_make_requests, args=(stack, over))
    if is_busy:
        load.start()
    try:
        with psycopg.connect(stack.db_url, autocommit=True) as connection:
            user_id = str(uuid4())
            connection.execute(
                "insert into auth.users (id, email) values (%s, %s)", (user_id, f"{user_id}@example.com")
            )
            connection.execute("select public.add_user_credits(%s, 1000, 'bonus')", (user_id,))
            return [_pick_up(connection, user_id, log) for _ in range(count)]
    finally:
        over.set()
        if is_busy:
            load.join()


def _pick_up(connection: psycopg.Connection[tuple[Any, ...]], user_id: str, log: Path) -> float:
    time.sleep(random.uniform(0.2, 0.5))  # noqa: S311 - not to fall into step with anything
    prompt = uuid4().hex
    with connection.transaction():
        connection.execute(
            "select set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true)",
            (json.dumps({"sub": user_id, "role": "authenticated"}), user_id),
        )
        connection.execute("set local role authenticated")
        connection.execute("select public.request_image_operation(null, 'generate', %s)", (Jsonb({"prompt": prompt}),))
    committed = time.time()
    _wait(lambda: f"{MARK} {prompt}" in log.read_text())
    line = next(line for line in log.read_text().splitlines() if line.startswith(f"{MARK} {prompt}"))
    return 1000 * (float(line.split()[-1]) - committed)


def _make_requests(stack: StackStatus, over: threading.Event) -> None:
    """Read through the API, evenly, until it is over."""
    with httpx.Client(base_url=stack.api_url, headers={"apikey": stack.publishable_key}) as client:
        due = time.monotonic()
        while not over.is_set():
            client.get("/rest/v1/operation_types").raise_for_status()
            due += 1 / REQUESTS_PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The worker does not answer.")
        time.sleep(0.005)
