"""A flush of the WAL that takes its time.

The goals were taken on a disk where a one-row update on one client ran at 5,200/s. Virtual disks that promise much make
a flush nearly free, and then nothing but the processor's part of a transaction is compared. `commit_delay` with
`commit_siblings = 0` makes each flush wait, one at a time, while the commits of others gather behind it, as a disk
does; here it waits until a one-row update on one client runs at 5,200/s, for us and for all that we are compared with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from tests.benchmarks.ledger import ANYBODY
from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Database

UPDATES_PER_SECOND = 5200
WITH, WITHOUT = "flushed as by a disk", "flushes free"
NOTE = f"""\
{WITH}: commit_delay makes each flush wait, one at a time and for us and others alike, until a one-row update on one
client runs at {UPDATES_PER_SECOND:,}/s, as on the disk where the goals were taken. {WITHOUT}: as this machine flushes,
which may be hardly at all; then only the processor's part is compared, and there is no goal.\
"""
_TRIED = (50, 150)  # microseconds
_PROBES = 8


def labelled(figures: Iterator[Figure], *, flushed: bool) -> Iterator[Figure]:
    """The figures under a section that says how commits were flushed; without the flush they have no goals."""
    for figure in figures:
        if flushed:
            yield replace(figure, section=f"{figure.section}, {WITH}")
        else:
            yield replace(figure, section=f"{figure.section}, {WITHOUT}", goal=None)


@contextmanager
def slow_flushes(database: Database, effort: Effort, report: Progress) -> Iterator[None]:
    """Meanwhile every flush on the server of `database`, which has the table ceiling.rows, takes its time."""
    try:
        _calibrate(database, effort, report)
        yield
    finally:
        _delay_flushes(database, 0)


def _calibrate(database: Database, effort: Effort, report: Progress) -> None:
    """Find the delay on the line through two others, each at its best: what else the machine does only slows down."""
    script = ANYBODY.format(people=effort.people) + "update ceiling.rows set number = number + 1 where id = :n;"
    run = database.timed(script, effort.seconds / 2)

    def with_delay(microseconds: int) -> float:
        _delay_flushes(database, microseconds)
        return run()

    rates = in_turn({delay: partial(with_delay, delay) for delay in (0, *_TRIED)}, _PROBES)
    none, low, high = (1e6 / max(rates[delay]) for delay in (0, *_TRIED))
    wanted, delay = 1e6 / UPDATES_PER_SECOND, 0
    if none < wanted:
        delay = max(1, round(_TRIED[0] + (wanted - low) * (_TRIED[1] - _TRIED[0]) / max(high - low, 1)))
    _delay_flushes(database, delay)
    report(f"a flush waits for {delay} µs: {max(run() for _ in range(_PROBES)):,.0f} one-row updates a second")


def _delay_flushes(database: Database, microseconds: int) -> None:
    database.execute(
        f"alter system set commit_delay = {microseconds}",
        "alter system set commit_siblings = 0",
        "select pg_reload_conf()",
    )
    while True:  # until new connections know
        with database.connect() as connection:
            (known,) = connection.execute("select setting::integer from pg_settings where name = 'commit_delay'")
        if known == (microseconds,):
            return
        time.sleep(0.05)
