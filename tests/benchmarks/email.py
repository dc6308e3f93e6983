"""The way of a mail through the outbox, beside the bare call of SendGrid's SDK in as many threads.

Ours counts from the commit of the mails to the last one that the outbox knows as sent: claimed, rendered, sent by the
same SDK to the same server, recorded; through the gateway of the local stack.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from psycopg.types.json import Jsonb

from local.stack import PROJECT, StackStatus
from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Server
from tests.database.personas import Connection, connect
from tests.email.email_process import EmailProcess

SECTION = "E-mail"
AGAINST = "calls of SendGrid's SDK, 10 threads"
THREADS = 10
# How long the provider thinks (seconds), and the mails of a round.
PROVIDERS = {0.1: 400, 0.0: 600}
LONGEST_WAIT = 120.0  # seconds


def run(server: Server, effort: Effort, report: Progress) -> Iterator[Figure]:
    """Mails a second, with a provider as far away as SendGrid is, and with one that answers at once."""
    with server.whole_stack() as stack, connect(stack.db_url) as connection:
        for seconds, mails in PROVIDERS.items():
            report(f"mails through the outbox, a provider that takes {seconds * 1000:.0f} ms")
            yield _compare(stack, connection, seconds, mails, effort)


def _compare(stack: StackStatus, connection: Connection, seconds: float, mails: int, effort: Effort) -> Figure:
    with tempfile.TemporaryDirectory() as folder, _provider(seconds) as url:
        service = EmailProcess(stack, url, Path(folder) / "log", EMAIL_CONCURRENCY=THREADS, EMAIL_POLL_SECONDS=0.05)
        with service:
            contenders: dict[str, Callable[[], float]] = {
                "ours": partial(_through_the_outbox, connection, mails),
                "bare": partial(_bare, url, mails),
            }
            taken = in_turn(contenders, effort.slow_rounds)
    what = f"mails sent and recorded, provider takes {seconds * 1000:.0f} ms"
    return Figure(SECTION, what, taken["ours"], AGAINST, taken["bare"], "mails/s")


def _through_the_outbox(connection: Connection, mails: int) -> float:
    """Mails a second."""
    run_id = uuid4()
    with connection.transaction():
        user = connection.execute(
            "insert into auth.users (id, email) values (%s, %s) returning id", (run_id, f"{run_id}@example.test")
        ).fetchone()
        assert user is not None
        connection.execute(
            "select private.queue_email(%s, 'welcome', n || ':' || %s, %s) from generate_series(1, %s) as n",
            (run_id, run_id, Jsonb({"credits": "2 credits"}), mails),
        )
    started = time.perf_counter()
    while True:
        row = connection.execute(
            "select count(*) as left from public.email_logs where user_id = %s and status <> 'sent'", (run_id,)
        ).fetchone()
        assert row is not None
        if row["left"] == 0:
            break
        if time.perf_counter() - started > LONGEST_WAIT:
            raise TimeoutError("The outbox is not emptied.")
        time.sleep(0.02)
    rate = mails / (time.perf_counter() - started)
    connection.execute("delete from auth.users where id = %s", (run_id,))
    return rate


def _bare(url: str, mails: int) -> float:
    """Calls a second."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bare_sendgrid", url, str(THREADS), str(mails)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@contextmanager
def _provider(seconds: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.email.sendgrid_double", str(seconds)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
