"""Child processes that crash, hang, leak or outlive their parent."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest

from services.images.engines import EngineError
from services.images.pool import ChildCrashError, ChildDeathError, ChildTimeoutError, Pool

FAKE = "tests.services.pool_runners:FakeRunner"


def make_pool(**overrides: Any) -> Pool:
    settings: dict[str, Any] = {
        "size": 2,
        "factory": FAKE,
        "timeout_seconds": 20,
        "memory_limit_mb": 1024,
        "recycle_after": 100,
    }
    return Pool(**(settings | overrides))


def with_pool(test: Callable[[Pool], Coroutine[Any, Any, None]], **overrides: Any) -> None:
    async def run() -> None:
        async with make_pool(**overrides) as pool:
            await test(pool)

    asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.01)


def test_bytes_go_in_and_come_out_unchanged() -> None:
    async def test(pool: Pool) -> None:
        source = os.urandom(20 << 20)
        result = await pool.run("upscale", source, {})
        assert result.data == source
        assert pool.providers == {"upscale": "fake", "generate": "fake"}

    with_pool(test, size=1)


def test_calls_run_side_by_side_and_children_stay_warm() -> None:
    async def test(pool: Pool) -> None:
        before = pool.pids
        results = await asyncio.gather(*(pool.run("upscale", b"x", {}) for _ in range(10)))
        assert {result.details["pid"] for result in results} <= before
        started = time.monotonic()
        nap = {"do": "sleep", "seconds": 0.5}
        await asyncio.gather(*(pool.run("upscale", b"x", nap) for _ in range(2)))
        assert time.monotonic() - started < 0.9
        assert pool.pids == before

    with_pool(test)


def test_engine_errors_keep_all_they_say() -> None:
    async def test(pool: Pool) -> None:
        with pytest.raises(EngineError, match="flat art") as refused:
            await pool.run("upscale", b"x", {"do": "refuse"})
        assert not refused.value.retryable
        assert refused.value.calls[0].api_provider == "fake"
        with pytest.raises(EngineError, match="busy") as later:
            await pool.run("upscale", b"x", {"do": "later"})
        assert (later.value.retryable, later.value.retry_after) == (True, 7)

    with_pool(test, size=1)


def test_a_bug_in_an_engine_comes_back_with_its_traceback_and_costs_no_child() -> None:
    async def test(pool: Pool) -> None:
        before = pool.pids
        with pytest.raises(ChildCrashError, match=r"ZeroDivisionError: a bug"):
            await pool.run("upscale", b"x", {"do": "bug"})
        assert pool.pids == before

    with_pool(test, size=1)


def test_a_crash_costs_one_call_and_no_other() -> None:
    async def test(pool: Pool) -> None:
        neighbour = asyncio.create_task(pool.run("upscale", b"fine", {"do": "sleep", "seconds": 1}))
        with pytest.raises(ChildDeathError, match="SIGSEGV"):
            await pool.run("upscale", b"x", {"do": "segfault"})
        assert (await neighbour).data == b"fine"
        await until(lambda: pool.warm == 2)
        assert (await pool.run("upscale", b"again", {})).data == b"again"

    with_pool(test)


def test_a_child_killed_from_outside_while_idle_costs_one_call() -> None:
    async def test(pool: Pool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ChildDeathError, match="SIGKILL"):
            await pool.run("upscale", b"x" * (1 << 20), {})
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1)


def test_a_call_that_takes_too_long_is_killed_even_in_c_code() -> None:
    async def test(pool: Pool) -> None:
        (pid,) = pool.pids
        with pytest.raises(ChildTimeoutError, match=r"longer than 0\.5 s"):
            await pool.run("upscale", b"x", {"do": "spin_in_c", "seconds": 60})
        await until(lambda: not psutil.pid_exists(pid))
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1, timeout_seconds=0.5)


def test_a_cancelled_call_kills_its_child() -> None:
    async def test(pool: Pool) -> None:
        (pid,) = pool.pids
        call = asyncio.create_task(pool.run("upscale", b"x", {"do": "sleep", "seconds": 60}))
        await until(lambda: pool._idle.empty())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: not psutil.pid_exists(pid))
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is honoured on Linux only")
def test_memory_is_limited_and_the_child_survives() -> None:
    async def test(pool: Pool) -> None:
        with pytest.raises(ChildCrashError, match="MemoryError"):
            await pool.run("upscale", b"x", {"do": "allocate", "megabytes": 2048})
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1)


def test_a_child_is_replaced_after_its_share_of_calls() -> None:
    async def test(pool: Pool) -> None:
        pids = [(await pool.run("upscale", b"x", {})).details["pid"] for _ in range(5)]
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert not psutil.pid_exists(int(str(pids[0])))

    with_pool(test, size=1, recycle_after=2)


def test_children_share_the_cores_and_never_see_the_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_x")

    async def test(pool: Pool) -> None:
        details = (await pool.run("upscale", b"x", {})).details
        assert (details["threads"], details["sees_secret"]) == ("3", False)

    with_pool(test, size=1, threads=3)


def test_a_child_that_cannot_start_is_an_error_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def test(pool: Pool) -> None:
        raise AssertionError("entered")

    with pytest.raises(ChildDeathError, match="status 1"):
        with_pool(test, factory="tests.services.pool_runners:UnableToStart")
    assert "ImportError: no such library" in capfd.readouterr().err


PARENT = f"""
import asyncio, sys
from services.images.pool import Pool

async def main():
    pool = Pool(size=2, factory="{FAKE}", timeout_seconds=60, memory_limit_mb=1024, recycle_after=9)
    async with pool:
        calls = [asyncio.create_task(pool.run("upscale", b"x", {{"do": do, "seconds": 60}}))
                 for do in ("sleep", "spin_in_c")]
        while not pool._idle.empty():
            await asyncio.sleep(0.01)
        print(*pool.pids, flush=True)
        await asyncio.gather(*calls)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a child busy in C code outlives its parent elsewhere")
def test_busy_children_die_with_a_parent_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < deadline, "a child outlived its parent"
        time.sleep(0.02)


def test_signals_to_the_group_do_not_reach_a_busy_child() -> None:
    async def test(pool: Pool) -> None:
        (pid,) = pool.pids
        call = asyncio.create_task(pool.run("upscale", b"x", {"do": "sleep", "seconds": 0.5}))
        await until(lambda: pool._idle.empty())
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert (await call).data == b"x"

    with_pool(test, size=1)
