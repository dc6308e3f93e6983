"""How tasks are run: by their clocks, apart from each other, and counted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import structlog
from starlette.testclient import TestClient

from services.maintenance import service
from services.maintenance.service import Maintenance, Metrics, Outcome, make_app
from services.maintenance.tasks import (
    LedgerViolatedError,
    Project,
    StuckObjectError,
    Task,
    delete_expired_images,
    remove_orphaned_objects,
    watch_set_aside_rows,
)
from services.project import RefusedError, UnavailableError

NOWHERE = cast(Project, None)


async def fine(_: Project) -> int:
    return 3


async def away(_: Project) -> int:
    raise UnavailableError("nobody answers")


async def broken(_: Project) -> int:
    raise ZeroDivisionError("a mistake")


async def violated(_: Project) -> int:
    raise LedgerViolatedError([{"user_id": None, "invariant": "adds up", "detail": {}}])


def run_once(*functions: Callable[[Project], Awaitable[int]]) -> tuple[Maintenance, dict[str, Outcome]]:
    async def run() -> tuple[Maintenance, dict[str, Outcome]]:
        maintenance = Maintenance(NOWHERE, [Task(function.__name__, 60, function) for function in functions])
        return maintenance, {run.task: run.outcome for run in await maintenance.run_once()}

    return asyncio.run(run())


def test_a_task_that_fails_stops_no_other() -> None:
    _, outcomes = run_once(away, broken, violated, fine)
    assert outcomes == {"away": "failed", "broken": "failed", "violated": "violated", "fine": "done"}


def test_each_task_has_its_own_clock_and_a_failed_one_is_tried_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_RETRY", 0.01)
    runs: list[str] = []

    def task(name: str, interval: float, error: Exception | None = None) -> Task:
        async def run(_: Project) -> int:
            runs.append(name)
            if error:
                raise error
            return 0

        return Task(name, interval, run)

    async def run() -> None:
        maintenance = Maintenance(
            NOWHERE, [task("often", 0.02), task("daily", 86400), task("failing", 86400, UnavailableError("away"))]
        )
        running = asyncio.create_task(maintenance.run())
        await asyncio.sleep(0.5)
        maintenance.stop()
        await running

    asyncio.run(run())
    assert runs.count("daily") == 1
    assert runs.count("often") > 5
    assert 2 < runs.count("failing") < 8, "the pauses grow"


def test_an_outage_is_logged_when_it_begins_and_ends() -> None:
    errors: list[Exception] = [UnavailableError("away"), UnavailableError("away"), ZeroDivisionError("a mistake")]

    async def passing(_: Project) -> int:
        if errors:
            raise errors.pop(0)
        return 0

    async def run() -> None:
        task = Task("passing", 60, passing)
        maintenance = Maintenance(NOWHERE, [task])
        for _ in range(5):
            await maintenance.attempt(task)

    with structlog.testing.capture_logs() as events:
        asyncio.run(run())
    assert [event["event"] for event in events] == ["task_failed", "task_crashed", "task_recovered"]


async def refused(_: Project) -> int:
    raise RefusedError("Invalid API key")


def test_a_project_that_refuses_everything_ends_the_service() -> None:
    maintenance = Maintenance(NOWHERE, [Task("one", 60, refused), Task("other", 60, refused)])
    with pytest.raises(RefusedError, match="Invalid API key"):
        asyncio.run(asyncio.wait_for(maintenance.run(), 5))


@pytest.mark.parametrize("other", [fine, away])
def test_what_is_refused_alone_ends_nothing(other: Callable[[Project], Awaitable[int]]) -> None:
    async def run() -> None:
        maintenance = Maintenance(NOWHERE, [Task("one", 60, refused), Task("other", 60, other)])
        running = asyncio.create_task(maintenance.run())
        await asyncio.sleep(0.05)
        assert not running.done()
        maintenance.stop()
        await running

    asyncio.run(run())


def test_a_task_that_hangs_is_cut_off_by_the_stop() -> None:
    async def hang(_: Project) -> int:
        await asyncio.sleep(3600)
        return 0

    async def run() -> None:
        maintenance = Maintenance(NOWHERE, [Task("hang", 60, hang)])
        running = asyncio.create_task(maintenance.run())
        await asyncio.sleep(0.05)
        maintenance.stop()
        await asyncio.wait_for(running, 10)

    asyncio.run(run())


def test_rows_that_were_set_aside_are_counted_and_logged_when_they_change() -> None:
    counts: list[int] = [2, 2, 3, 0, 0]

    class Counting(Project):
        async def call(self, function: str, **params: Any) -> Any:
            assert function == "count_set_aside_rows"
            return counts.pop(0)

    async def run() -> Maintenance:
        task = Task(watch_set_aside_rows.__name__, 60, watch_set_aside_rows)
        maintenance = Maintenance(Counting(cast(Any, None), 400), [task])
        for expected in (2, 2, 3, 0, 0):
            told = await maintenance.attempt(task)
            assert (told.outcome, told.count) == ("violated" if expected else "done", expected)
            metrics = TestClient(make_app(maintenance.metrics)).get("/metrics").text
            assert f"dtf_maintenance_set_aside_rows {float(expected)}\n" in metrics
        return maintenance

    with structlog.testing.capture_logs() as events:
        asyncio.run(run())
    assert [(event["event"], event.get("count")) for event in events] == [
        ("rows_set_aside", 2),
        ("rows_set_aside", 3),
        ("task_recovered", None),
    ]


@pytest.mark.parametrize(("age", "overdue"), [(500.0, []), (601.0, ["fine"])])
def test_a_task_that_does_not_come_to_its_end_is_overdue(
    monkeypatch: pytest.MonkeyPatch, age: float, overdue: list[str]
) -> None:
    monkeypatch.setattr(Metrics, "_age", lambda *_: age)
    maintenance, _ = run_once(fine)
    answer = TestClient(make_app(maintenance.metrics)).get("/healthz")
    assert answer.status_code == (503 if overdue else 200)
    assert answer.json() == {"status": "overdue" if overdue else "ok", "overdue": overdue}


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (delete_expired_images, {"image_id": "1", "object_keys": ["originals/1/a.png"]}),
        (remove_orphaned_objects, {"bucket_id": "originals", "name": "1/a.png"}),
    ],
)
def test_an_object_that_does_not_go_is_no_endless_loop(
    task: Callable[[Project], Awaitable[int]], row: dict[str, Any]
) -> None:
    others = [
        row | ({"object_keys": [f"originals/2/{n}.png"]} if "object_keys" in row else {"name": f"2/{n}.png"})
        for n in range(3)
    ]
    removed: list[str] = []

    class Stuck(Project):
        async def call(self, function: str, **params: Any) -> Any:
            return [row, *others[:1]]

        async def remove(self, keys: list[str]) -> None:
            removed.extend(keys)
            del others[:1]

    with pytest.raises(StuckObjectError, match=r"originals/1/a\.png"):
        asyncio.run(task(Stuck(cast(Any, None), 400)))  # type: ignore[arg-type]
    assert removed == ["originals/1/a.png", *(f"originals/2/{n}.png" for n in range(3))], "it stops no other"
