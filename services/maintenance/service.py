"""Runs the tasks: each by its own clock, or all of them once. One that fails never stops another."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.applications import Starlette

from services.health import health_app
from services.maintenance.tasks import (
    TASKS,
    LedgerViolatedError,
    Project,
    RowsSetAsideError,
    StuckObjectError,
    Task,
    verify_ledger,
    watch_set_aside_rows,
)
from services.project import RefusedError, UnavailableError
from services.waiting import Backoff, jittered

FIRST_RETRY = 15.0  # seconds; doubled with each failure, up to the task's interval
LOGGED_VIOLATIONS = 20
OVERDUE_INTERVALS = 3
LEAST_OVERDUE_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """How a run of a task ended."""

    DONE = "done"
    FAILED = "failed"
    VIOLATED = "violated"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a task: how many things it dealt with (where violated: that a person has to), or what went wrong."""

    task: str
    outcome: Outcome
    count: int
    seconds: float
    error: str | None = None


class Metrics:
    """What is known of the runs of each task."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.registry = CollectorRegistry()
        self._intervals = {task.name: task.interval for task in tasks}
        self._last_done = dict.fromkeys(self._intervals, time.monotonic())
        self._runs = Counter(
            "dtf_maintenance_runs", "Runs by task and outcome.", ("task", "outcome"), registry=self.registry
        )
        self._handled = Counter(
            "dtf_maintenance_handled", "Things that tasks dealt with.", ("task",), registry=self.registry
        )
        self._levels = {
            verify_ledger.__name__: Gauge(
                "dtf_maintenance_ledger_violations",
                "Violated invariants of the ledger, when it was last verified.",
                registry=self.registry,
            ),
            watch_set_aside_rows.__name__: Gauge(
                "dtf_maintenance_set_aside_rows",
                "Rows that tasks could not deal with and left to a person.",
                registry=self.registry,
            ),
        }
        age = Gauge(
            "dtf_maintenance_last_done_age_seconds",
            "Seconds since a task last came to its end, or since the start.",
            ("task",),
            registry=self.registry,
        )
        for name in self._intervals:
            age.labels(name).set_function(partial(self._age, name))

    def ran(self, run: Run) -> None:
        """Count a run."""
        self._runs.labels(run.task, run.outcome).inc()
        if run.outcome is Outcome.FAILED:
            return
        self._last_done[run.task] = time.monotonic()
        if run.outcome is Outcome.DONE:
            self._handled.labels(run.task).inc(run.count)
        if run.task in self._levels:
            self._levels[run.task].set(run.count)

    def overdue(self) -> list[str]:
        """Tasks that have not come to their end for several of their intervals."""
        return [
            name
            for name, interval in self._intervals.items()
            if self._age(name) > max(LEAST_OVERDUE_SECONDS, OVERDUE_INTERVALS * interval)
        ]

    def _age(self, task: str) -> float:
        return time.monotonic() - self._last_done[task]


class Maintenance:
    """Runs tasks on a project."""

    def __init__(self, project: Project, tasks: Sequence[Task] = TASKS) -> None:
        self._project = project
        self._tasks = tasks
        self._stop = asyncio.Event()
        self._failing: dict[str, str | None] = {}
        self._refusals: dict[str, RefusedError] = {}
        self._is_accepted = False
        self.metrics = Metrics(tasks)

    def stop(self) -> None:
        """End `run`. What is under way is cut off, which is safe anywhere."""
        self._stop.set()

    async def run(self) -> None:
        """Run each task by its own clock until stopped. Raises RefusedError where all are refused from the start."""
        clocks = [asyncio.create_task(self._by_the_clock(task)) for task in self._tasks]
        log.info("maintenance_started", tasks=[task.name for task in self._tasks])
        await self._stop.wait()
        for clock in clocks:
            clock.cancel()
        await asyncio.gather(*clocks, return_exceptions=True)
        if self._is_refused():
            raise next(iter(self._refusals.values()))
        log.info("maintenance_stopped")

    async def run_once(self) -> list[Run]:
        """Run every task once, one after the other."""
        return [await self.attempt(task) for task in self._tasks]

    async def _by_the_clock(self, task: Task) -> None:
        backoff = Backoff(FIRST_RETRY, task.interval)
        while True:
            run = await self.attempt(task)
            if run.outcome is Outcome.FAILED:
                wait = backoff.next()
            else:
                backoff.reset()
                wait = task.interval
            if self._is_refused():
                self.stop()
            await asyncio.sleep(jittered(wait, 0.1))

    def _is_refused(self) -> bool:
        return not self._is_accepted and len(self._refusals) == len(self._tasks)

    async def attempt(self, task: Task) -> Run:
        """Run one task now; whatever goes wrong is logged (until it changes: once), counted and told in the answer."""
        started = time.monotonic()

        def ended(outcome: Outcome, count: int = 0, error: str | None = None) -> Run:
            return Run(task.name, outcome, count, round(time.monotonic() - started, 3), error)

        try:
            run = ended(Outcome.DONE, await task.run(self._project))
        except LedgerViolatedError as error:
            run = ended(Outcome.VIOLATED, len(error.violations), str(error))
            for violation in error.violations[:LOGGED_VIOLATIONS]:
                log.error("ledger_violated", **violation)
        except RowsSetAsideError as error:
            run = ended(Outcome.VIOLATED, error.count, str(error))
            if self._is_news(run):
                log.error("rows_set_aside", count=error.count)
        except (UnavailableError, RefusedError, StuckObjectError) as error:
            run = ended(Outcome.FAILED, error=str(error))
            if isinstance(error, RefusedError):
                self._refusals[task.name] = error
            if self._is_news(run):
                log.warning("task_failed", task=task.name, error=run.error)
        except Exception as error:
            run = ended(Outcome.FAILED, error=f"{type(error).__name__} {error}".rstrip())
            if self._is_news(run):
                log.exception("task_crashed", task=task.name)
        if run.outcome is not Outcome.FAILED:
            self._is_accepted = True
        if run.outcome is Outcome.DONE and self._failing.pop(task.name, None):
            log.info("task_recovered", task=task.name)
        if run.outcome is Outcome.DONE and run.count:
            log.info("task_done", task=task.name, count=run.count, seconds=run.seconds)
        self.metrics.ran(run)
        return run

    def _is_news(self, run: Run) -> bool:
        known, self._failing[run.task] = self._failing.get(run.task), run.error
        return run.error != known


def make_app(metrics: Metrics) -> Starlette:
    """Make the HTTP app. /healthz answers 503 when a task is overdue."""

    def check() -> tuple[bool, dict[str, Any]]:
        overdue = metrics.overdue()
        return not overdue, {"status": "overdue" if overdue else "ok", "overdue": overdue}

    return health_app(check, metrics.registry)
