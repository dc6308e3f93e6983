"""The worker against an API that can be made to fail at any point."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from services.images import job, outage
from services.images.health import Metrics
from services.images.pool import Pool
from services.images.queue import Completion, Queue
from services.images.settings import WorkerSettings
from services.images.storage import Storage
from services.images.worker import UNREACHABLE_WAIT, Worker
from services.project import RefusedError, connect, http_client
from tests.services.api_double import ApiDouble, FakeOperation, serve

NEVER_SOON = 60.0  # seconds: what a test waits for must come without this having passed

LogEvents = list[dict[str, Any]]


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    with serve() as double:
        yield double


@pytest.fixture
def events() -> Iterator[LogEvents]:
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


class Running:
    """A worker inside this process."""

    def __init__(
        self, worker: Worker, task: asyncio.Task[None], pool: Pool, wake: asyncio.Event, metrics: Metrics
    ) -> None:
        self.worker, self.task, self.pool, self.wake, self.metrics = worker, task, pool, wake, metrics

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, much shorter than anything that must not come first here takes (NEVER_SOON)."""
        deadline = time.monotonic() + NEVER_SOON / 2
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.005)

    def counted(self, event: str) -> float:
        """How many upscales /metrics shows for an event."""
        labels = {"operation_type": "upscale", "event": event}
        return self.metrics.registry.get_sample_value("dtf_worker_operations_total", labels) or 0.0


@asynccontextmanager
async def running_worker(api: ApiDouble, **overrides: Any) -> AsyncIterator[Running]:
    values: dict[str, Any] = {
        "supabase_url": api.url,
        "supabase_secret_key": "sb_secret_test",
        "concurrency": 1,
        "lease_seconds": 6,
        "poll_seconds": 0.2,
        "operation_timeout_seconds": 2 * NEVER_SOON,
        "memory_limit_mb": 1024,
        "shutdown_grace_seconds": NEVER_SOON,
    }
    settings = WorkerSettings(**(values | overrides))
    wake, metrics = asyncio.Event(), Metrics()
    pool = Pool(
        size=settings.concurrency,
        factory="tests.services.pool_runners:FakeRunner",
        timeout_seconds=settings.operation_timeout_seconds,
        memory_limit_mb=settings.memory_limit_mb,
        recycle_after=settings.recycle_after,
        on_ready=wake.set,
    )
    async with http_client() as http, pool:
        client = await connect(settings, http)
        worker = Worker(
            settings,
            queue=Queue(client, "worker-under-test", settings.lease_seconds),
            storage=Storage(client, http),
            pool=pool,
            metrics=metrics,
            wake=wake,
        )
        task = asyncio.create_task(worker.run())
        try:
            yield Running(worker, task, pool, wake, metrics)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def work(api: ApiDouble, test: Callable[[Running], Coroutine[Any, Any, None]] | None = None, **overrides: Any) -> None:
    """Run a worker until the test is over, by default until no operation is pending or processing."""

    async def run() -> None:
        async with running_worker(api, **overrides) as running:
            if test is not None:
                await test(running)
            else:
                await running.until(lambda: all(ended(operation) for operation in api.operations.values()))
                await running.until(lambda: not running.worker._jobs)

    asyncio.run(run())


def ended(operation: FakeOperation) -> bool:
    return operation.status in {"completed", "failed"}


def nap(seconds: float) -> dict[str, Any]:
    return {"options": {"seconds": seconds}}


# One operation, and what can be wrong with it


def test_an_operation_is_done_stored_and_completed(api: ApiDouble) -> None:
    operation = api.add(source=b"art")
    work(api)
    stem = f"results/{operation.user_id}/{operation.id}/{operation.lease_token}"
    assert api.objects[f"{stem}.png"] == ("image/png", b"art")
    assert api.objects[f"{stem}.thumb.webp"] == ("image/webp", b"thumbnail")
    report = operation.report
    assert report["p_api_provider"] == "fake"
    assert 0 < report["p_processing_time"] < 10
    assert report["p_usage"] == []
    assert {key: report["p_output"][key] for key in ("url", "thumbnail_url", "media_type", "bytes", "width")} == {
        "url": f"{stem}.png",
        "thumbnail_url": f"{stem}.thumb.webp",
        "media_type": "image/png",
        "bytes": 3,
        "width": 1,
    }
    assert "files" not in report["p_output"]


def test_files_that_come_with_a_result_are_stored_beside_it(api: ApiDouble) -> None:
    operation = api.add(source=b"art", options={"do": "white"})
    work(api)
    url = f"results/{operation.user_id}/{operation.id}/{operation.lease_token}.white.png"
    assert api.objects[url] == ("image/png", b"white")
    described = {"url": url, "name": "white", "title": "White", "media_type": "image/png", "bytes": 5}
    assert operation.report["p_output"]["files"] == [described]


def test_an_operation_without_a_picture_needs_no_download(api: ApiDouble) -> None:
    operation = api.add(source=None, operation_type="generate")
    work(api)
    assert api.objects[operation.report["p_output"]["url"]][1] == b"generated"


def test_a_refusing_engine_fails_the_operation_for_good(api: ApiDouble) -> None:
    operation = api.add("refuse")
    work(api)
    assert (operation.status, operation.attempts) == ("failed", 1)
    assert operation.report["p_error_message"] == "This is not flat art."
    assert operation.report["p_usage"][0]["api_provider"] == "fake"


def test_a_busy_provider_is_asked_again_after_the_time_it_named(api: ApiDouble) -> None:
    operation = api.add("later", max_attempts=1)
    work(api)
    assert operation.report["p_retryable"] is True
    assert operation.report["p_retry_after_seconds"] == 7


def test_a_bug_is_logged_with_its_traceback_and_not_told_to_the_user(api: ApiDouble, events: LogEvents) -> None:
    operation = api.add("bug", max_attempts=1)
    work(api)
    assert operation.report["p_error_message"] == job.OUR_FAULT
    assert operation.report["p_retryable"] is True
    (event,) = [event for event in events if event["event"] == "engine_crashed"]
    assert "ZeroDivisionError" in event["traceback"]


def test_a_poison_operation_uses_up_its_attempts_and_the_next_one_is_done(api: ApiDouble) -> None:
    poison, fine = api.add("segfault"), api.add()
    work(api)
    assert (poison.status, poison.attempts) == ("failed", 3)
    assert poison.report["p_error_message"] == job.ENGINE_STOPPED
    assert fine.status == "completed"


def test_an_engine_that_takes_too_long_is_stopped(api: ApiDouble) -> None:
    operation = api.add("sleep", **nap(2 * NEVER_SOON))
    work(api, operation_timeout_seconds=0.3)
    assert (operation.status, operation.attempts) == ("failed", 1), "it would take as long again"
    assert operation.report["p_error_message"] == job.TOOK_TOO_LONG


def test_an_engine_that_answers_nonsense_is_stopped_and_tried_again(api: ApiDouble) -> None:
    operation = api.add("forge", max_attempts=2, options={"frame": "00" * 100})
    work(api)
    assert (operation.status, operation.attempts) == ("failed", 2)
    assert operation.report["p_error_message"] == job.ENGINE_STOPPED


@pytest.mark.parametrize(
    ("input_url", "message"),
    [
        ("originals/someone/missing.png", "not in storage"),
        ("endless/someone/huge.png", "larger than 50 MiB"),
        ("originals/someone/../other/secret.png", "storage key is not valid"),
    ],
)
def test_a_picture_that_cannot_be_had_fails_for_good(api: ApiDouble, input_url: str, message: str) -> None:
    operation = api.add(source=None, input_url=input_url)
    work(api)
    assert (operation.status, operation.attempts) == ("failed", 1)
    assert message in operation.report["p_error_message"]


@pytest.mark.parametrize("fault", ["500", "cut"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_storage_trouble_is_not_the_users_fault(api: ApiDouble, method: str, fault: str) -> None:
    api.faults[f"{method} /storage"] = fault
    operation = api.add(max_attempts=2)
    work(api)
    assert operation.attempts == 2
    assert operation.report["p_error_message"] == job.STORAGE_AWAY
    assert operation.report["p_retryable"] is True


@pytest.mark.parametrize("fault", ["refused", "no_bucket", "no_route"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_storage_tells_the_operator_is_not_told_to_the_user(
    api: ApiDouble, events: LogEvents, method: str, fault: str
) -> None:
    api.faults[f"{method} /storage"] = fault
    operation = api.add(max_attempts=2)
    work(api)
    assert operation.attempts == 2, "it can be mended meanwhile"
    assert operation.report["p_error_message"] == job.OUR_FAULT
    assert {event["event"] for event in events if event["log_level"] == "error"} == {"storage_refused"}


def test_while_storage_is_away_operations_keep_their_attempts(
    api: ApiDouble, events: LogEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "PAUSE", (NEVER_SOON, NEVER_SOON))
    api.faults["GET /storage"] = "500"
    operations = [api.add() for _ in range(6)]

    def are_tried(times: int) -> bool:
        return sum(operation.attempts for operation in operations) == times

    async def test(running: Running) -> None:
        def is_idle() -> bool:
            return not running.worker._jobs and not running.wake.is_set()

        async def end_pause() -> None:
            running.worker._storage.outage._until = 0
            running.wake.set()

        await running.until(lambda: are_tried(2) and is_idle())
        running.wake.set()
        await running.until(is_idle)
        assert are_tried(2)
        await end_pause()
        await running.until(lambda: are_tried(3) and is_idle())
        api.faults.clear()
        await end_pause()
        await running.until(lambda: all(operation.status == "completed" for operation in operations))

    work(api, test, concurrency=2)
    names = [event["event"] for event in events]
    assert (names.count("storage_away"), names.count("storage_back")) == (1, 1)


def test_what_a_provider_was_paid_is_recorded_even_if_the_result_cannot_be_stored(api: ApiDouble) -> None:
    api.faults["POST /storage"] = "500"
    operation = api.add("paid", max_attempts=1)
    work(api)
    assert operation.report["p_error_message"] == job.STORAGE_AWAY
    assert [(call["api_provider"], call["cost"]) for call in operation.report["p_usage"]] == [("fake", 0.04)]


def test_what_a_provider_was_paid_is_at_least_logged_if_the_lease_is_lost(api: ApiDouble, events: LogEvents) -> None:
    api.faults["complete"] = "lease_lost"
    api.add("paid")

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("lease_lost") == 1)

    work(api, test, lease_seconds=int(NEVER_SOON))
    (event,) = [event for event in events if event["event"] == "provider_call_not_confirmed"]
    assert (event["api_provider"], event["cost"]) == ("fake", "0.04")


# The lease


def test_heartbeats_keep_the_lease_of_a_long_operation(api: ApiDouble) -> None:
    operation = api.add("sleep", **nap(6))
    work(api, lease_seconds=4)
    assert (operation.status, operation.attempts) == ("completed", 1)
    assert len(api.called("extend_image_operation_lease")) >= 3


def test_heartbeats_that_fail_for_a_while_do_no_harm(api: ApiDouble) -> None:
    operation = api.add("sleep", **nap(5))

    async def test(running: Running) -> None:
        api.faults["extend"] = "500, refused"
        await running.until(lambda: len(api.called("extend_image_operation_lease")) >= 3)
        del api.faults["extend"]
        await running.until(lambda: operation.status == "completed")

    work(api, test)
    assert operation.attempts == 1


def test_a_job_whose_lease_was_taken_is_killed_and_writes_nothing(api: ApiDouble) -> None:
    operation = api.add("sleep", **nap(2 * NEVER_SOON))

    async def test(running: Running) -> None:
        await running.until(lambda: operation.status == "processing")
        child = running.pool.pids
        operation.lease_token, operation.lease_expires_at = "another worker's", time.monotonic() + NEVER_SOON
        await running.until(lambda: bool(running.pool.pids) and running.pool.pids.isdisjoint(child))
        await running.until(lambda: running.counted("lease_lost") == 1)

    work(api, test)
    assert operation.report == {}
    assert api.results() == set()


def test_a_lease_that_could_not_be_extended_in_time_is_given_up(api: ApiDouble, events: LogEvents) -> None:
    operation = api.add("sleep", **nap(2 * NEVER_SOON))

    async def test(running: Running) -> None:
        await running.until(lambda: operation.status == "processing")
        api.faults.update({"extend": "silent", "rpc/claim": "500"})
        await running.until(lambda: running.counted("lease_lost") == 1)

    work(api, test, lease_seconds=2)
    assert operation.report == {}
    assert any("ran out" in event.get("reason", "") for event in events)


def test_a_lease_lost_at_the_end_takes_its_uploads_along(api: ApiDouble) -> None:
    api.faults["complete"] = "lease_lost"
    operation = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("lease_lost") == 1)

    work(api, test, lease_seconds=int(NEVER_SOON))
    assert operation.status == "processing"
    assert api.results() == set()


@pytest.mark.parametrize("fault", ["lose_reply", "500", "silent"])
def test_a_completion_is_repeated_until_it_is_answered(api: ApiDouble, fault: str) -> None:
    api.faults["complete"] = fault
    operation = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: bool(api.called("complete_and_claim_image_operation")))
        del api.faults["complete"]
        await running.until(lambda: not running.worker._jobs)

    work(api, test)
    assert (operation.status, operation.attempts) == ("completed", 1)
    assert len(api.called("complete_and_claim_image_operation")) == 2
    assert len(api.results()) == 2


def test_a_completion_that_nobody_answers_leaves_the_uploads_in_place(api: ApiDouble) -> None:
    """It may have been heard: removing the files could empty a completed operation."""
    api.faults["complete"] = "lose_reply"
    operation = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("unreported") == 1)

    work(api, test, lease_seconds=2)
    assert operation.status == "completed"
    assert len(api.results()) == 2


@pytest.mark.parametrize("answer", ["refused", "lease_lost"])
def test_what_a_repeat_is_told_says_nothing_about_a_completion_that_was_not_answered(
    api: ApiDouble, answer: str
) -> None:
    api.faults["complete"] = f"lose_reply, {answer}"
    operation = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("unreported") == 1)

    work(api, test)
    assert operation.status == "completed"
    assert api.called("fail_image_operation") == []
    assert len(api.results()) == 2


def test_uploads_stay_when_a_refused_completion_cannot_be_failed_either(api: ApiDouble) -> None:
    """Something between the worker and the database may have refused what the database had done already."""
    api.faults["complete"] = "done_but_refused"
    operation = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("lease_lost") == 1)

    work(api, test)
    assert operation.status == "completed"
    assert len(api.results()) == 2


def test_a_refused_completion_becomes_a_failure(api: ApiDouble) -> None:
    api.faults["complete"] = "refused"
    operation = api.add(max_attempts=1)
    work(api)
    assert operation.report["p_error_message"] == job.OUR_FAULT
    assert api.results() == set()


@pytest.mark.parametrize(("answers", "outcome"), [("lease_lost", "lease_lost"), ("500, lease_lost", "unreported")])
def test_uploads_go_when_no_completion_was_sent(api: ApiDouble, answers: str, outcome: str) -> None:
    api.faults["POST /storage/v1/object/results"] = "lose_reply"
    api.faults["fail"] = answers
    api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted(outcome) == 1)

    work(api, test, lease_seconds=int(NEVER_SOON))
    assert api.results() == set()


def test_a_crashed_job_is_counted_as_one(api: ApiDouble, events: LogEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(_: job.Job) -> job.Outcome:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(job.Job, "run", crash)
    api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("crashed") == 1)
        assert running.counted("lease_lost") == 0

    work(api, test)
    assert any(event["event"] == "job_crashed" for event in events)


# The loop


def test_slots_bound_what_is_claimed(api: ApiDouble) -> None:
    for _ in range(5):
        api.add("sleep", **nap(0.2))
    work(api, concurrency=2)
    assert api.most_at_once == 2
    assert {params["p_limit"] for params in api.called("claim_image_operations")} == {1, 2}


def test_freed_slots_are_filled_without_waiting_for_a_poll(api: ApiDouble) -> None:
    for _ in range(5):
        api.add()
    work(api, poll_seconds=2 * NEVER_SOON, recycle_after=2)


def test_nothing_is_claimed_for_a_child_that_is_being_replaced(api: ApiDouble) -> None:
    for _ in range(4):
        api.add()
    work(api, poll_seconds=2 * NEVER_SOON, recycle_after=1)
    # Some replacement may be ready before the upload is over, but not every one.
    assert len(api.called("complete_and_claim_image_operation")) < 4


def test_a_wake_up_is_answered_at_once(api: ApiDouble) -> None:
    async def test(running: Running) -> None:
        await running.until(lambda: bool(api.called("claim_image_operations")))
        operation = api.add()
        running.wake.set()
        await running.until(lambda: operation.status == "completed")

    work(api, test, poll_seconds=2 * NEVER_SOON)


def test_only_the_wanted_types_are_taken(api: ApiDouble) -> None:
    left, taken = api.add(), api.add(operation_type="generate")

    async def test(running: Running) -> None:
        await running.until(lambda: taken.status == "completed")

    work(api, test, operation_types="generate")
    assert left.status == "pending"
    assert api.called("claim_image_operations")[0]["p_operation_types"] == ["generate"]


@pytest.mark.parametrize("fault", ["gone", "500", "cut"])
def test_an_outage_is_logged_once_and_its_end_found_without_waiting_for_a_poll(
    api: ApiDouble, events: LogEvents, fault: str
) -> None:
    async def test(running: Running) -> None:
        await running.until(lambda: bool(api.called("claim_image_operations")))
        if fault == "gone":
            await asyncio.to_thread(api.stop)
        else:
            api.faults["rpc"] = fault
        running.wake.set()
        await running.until(lambda: any(event["event"] == "api_unreachable" for event in events))
        await asyncio.sleep(1)  # the outage itself: long enough for several tries
        operation = api.add()
        if fault == "gone":
            await asyncio.to_thread(api.start)
        api.faults.clear()
        await running.until(lambda: operation.status == "completed")

    work(api, test, poll_seconds=2 * NEVER_SOON)
    assert UNREACHABLE_WAIT[1] * 1.4 < 1, "the longest wait with its jitter"
    assert [event["event"] for event in events if event["event"].startswith("api_")] == [
        "api_unreachable",
        "api_back",
    ]


def test_a_silent_api_is_left_after_the_timeout(api: ApiDouble, events: LogEvents) -> None:
    api.faults["rpc"] = "silent"
    operation = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: any(event["event"] == "api_unreachable" for event in events))
        api.faults.clear()
        await running.until(lambda: operation.status == "completed")

    work(api, test)


def test_a_wrong_key_stops_the_worker_at_its_first_claim(api: ApiDouble) -> None:
    api.faults["rpc/claim"] = "refused"
    with pytest.raises(RefusedError, match="42501 permission denied"):
        work(api, lambda running: running.task)  # type: ignore[arg-type, return-value]


def test_a_later_refusal_does_not_stop_it(api: ApiDouble, events: LogEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.images.worker.REFUSED_WAIT", 0.1)

    async def test(running: Running) -> None:
        await running.until(lambda: bool(api.called("claim_image_operations")))
        api.faults["rpc/claim"] = "refused"
        await running.until(lambda: any(event["event"] == "claim_refused" for event in events))
        operation = api.add()
        api.faults.clear()
        await running.until(lambda: operation.status == "completed")

    work(api, test)


def test_a_type_that_no_engine_does_is_one_sentence() -> None:
    script = (
        "from services.images.__main__ import main; raise SystemExit(main('tests.services.pool_runners:FakeRunner'))"
    )
    variables = {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "k", "WORKER_OPERATION_TYPES": "colour"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "names colour, for which no engine is configured. Choose from generate, upscale." in ended.stderr


@pytest.mark.parametrize("fault", ["lose_reply", "500", "silent"])
def test_a_claim_is_repeated_under_its_id_until_it_is_answered(api: ApiDouble, fault: str) -> None:
    operations = [api.add(), api.add()]
    api.faults["rpc/claim"] = f"{fault}, {fault}, none"

    async def test(running: Running) -> None:
        await running.until(lambda: all(ended(operation) for operation in operations))

    work(api, test, concurrency=2, poll_seconds=2 * NEVER_SOON)
    assert [operation.attempts for operation in operations] == [1, 1]
    ids = [params["p_claim_id"] for params in api.called("claim_image_operations")]
    assert len(set(ids[:3])) == 1
    assert len(set(ids[2:])) == len(ids[2:])


@pytest.mark.parametrize("fault", ["lose_reply", "500", "silent"])
def test_a_completion_brings_the_next_operation_even_if_its_first_answer_is_lost(api: ApiDouble, fault: str) -> None:
    operations = [api.add() for _ in range(4)]
    api.faults["complete"] = f"{fault}, none"
    work(api, poll_seconds=2 * NEVER_SOON)
    assert [operation.attempts for operation in operations] == [1, 1, 1, 1]
    claims = api.called("claim_image_operations")
    assert len(claims) <= 2, "one at the start, one when nothing is left"
    assert len(api.called("complete_and_claim_image_operation")) == 5


def test_what_a_completion_without_an_answer_has_claimed_is_claimed_again(api: ApiDouble) -> None:
    first, second = api.add(), api.add()
    api.faults["complete"] = "lose_reply"

    async def test(running: Running) -> None:
        await running.until(lambda: running.counted("unreported") == 1)
        del api.faults["complete"]
        await running.until(lambda: second.status == "completed")

    work(api, test, lease_seconds=2)
    assert (first.status, first.attempts, second.attempts) == ("completed", 1, 1)


def test_a_lease_never_looks_longer_here_than_in_the_database(api: ApiDouble) -> None:
    first, _ = api.add(), api.add()

    async def test() -> None:
        async with http_client() as http:
            settings = WorkerSettings(supabase_url=api.url, supabase_secret_key="sb_secret_test")  # type: ignore[arg-type]
            queue = Queue(await connect(settings, http), "worker-under-test", 60)
            (lease,) = await queue.claim(1, ["upscale"])
            assert lease.deadline <= first.lease_expires_at
            await queue.extend(lease)
            assert lease.deadline <= first.lease_expires_at
            (following,) = await queue.complete_and_claim(lease, Completion("fake", {}, 1.0), ["upscale"])
            assert following.deadline <= api.operations[str(following.operation.id)].lease_expires_at

    asyncio.run(test())


# Stopping


def test_a_stopped_worker_finishes_what_it_has_and_takes_no_more(api: ApiDouble) -> None:
    first = api.add("sleep", **nap(0.5))
    second = api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: bool(running.worker._jobs))
        running.worker.stop()
        await running.task

    work(api, test)
    assert (first.status, second.status) == ("completed", "pending")
    assert not api.called("complete_and_claim_image_operation")


def test_what_does_not_finish_within_the_grace_is_handed_back(api: ApiDouble) -> None:
    operation = api.add("sleep", **nap(2 * NEVER_SOON))

    async def test(running: Running) -> None:
        await running.until(lambda: bool(running.worker._jobs))
        running.worker.stop()
        await running.until(running.task.done)

    work(api, test, shutdown_grace_seconds=0.3)
    assert (operation.status, operation.attempts) == ("pending", 0)


def test_the_second_signal_hands_back_at_once(api: ApiDouble) -> None:
    operation = api.add("sleep", **nap(2 * NEVER_SOON))

    async def test(running: Running) -> None:
        await running.until(lambda: bool(running.worker._jobs))
        running.worker.stop()
        running.worker.stop()
        await running.until(running.task.done)

    work(api, test)
    assert (operation.status, operation.attempts) == ("pending", 0)


def test_a_claim_answered_after_the_signal_goes_back_untouched(api: ApiDouble) -> None:
    operation = api.add()

    async def test(running: Running) -> None:
        running.worker.stop()
        running.worker._stopping = False  # the loop begins; the signal comes while it claims
        asyncio.get_running_loop().call_later(0, lambda: setattr(running.worker, "_stopping", True))
        await running.task

    work(api, test)
    assert (operation.status, operation.attempts) == ("pending", 0)
    assert len(api.called("release_image_operation")) == 1


def test_what_a_completion_claims_after_the_signal_goes_back_untouched(api: ApiDouble, events: LogEvents) -> None:
    first, second = api.add("sleep", **nap(0.5)), api.add()

    async def test(running: Running) -> None:
        await running.until(lambda: bool(running.worker._jobs))
        claim = running.worker._queue.complete_and_claim

        async def claim_and_stop(*arguments: Any) -> Any:
            running.worker.stop()
            return await claim(*arguments)

        running.worker._queue.complete_and_claim = claim_and_stop  # type: ignore[assignment, method-assign]
        await running.task

    work(api, test)
    assert (first.status, second.status, second.attempts) == ("completed", "pending", 0)
    assert "operation_released" in {event["event"] for event in events}


def test_stopping_while_the_api_is_away_takes_no_longer_than_allowed(
    api: ApiDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.images.worker.HAND_BACK_SECONDS", 1)
    operation = api.add("sleep", **nap(2 * NEVER_SOON))

    async def test(running: Running) -> None:
        await running.until(lambda: bool(running.worker._jobs))
        api.faults["rpc"] = "silent"
        running.worker.stop()
        running.worker.stop()
        await running.until(running.task.done)

    work(api, test, lease_seconds=int(4 * NEVER_SOON))
    assert operation.status == "processing", "its lease will run out"
