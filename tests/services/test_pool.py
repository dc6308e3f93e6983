"""Child processes that crash, hang, leak or outlive their parent."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.images.engines import EngineError
from services.images.frames import PREFIX, Ready, encode_reply
from services.images.pool import ChildCrashError, ChildDeathError, ChildFrameError, ChildTimeoutError, Pool

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


def test_calls_run_side_by_side_and_children_stay_warm(tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        before = pool.pids
        results = await asyncio.gather(*(pool.run("upscale", b"x", {}) for _ in range(10)))
        assert {result.details["pid"] for result in results} <= before
        meeting = {"do": "meet", "folder": str(tmp_path), "expected": 2}
        await asyncio.gather(*(pool.run("upscale", b"x", meeting) for _ in range(2)))
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


def test_a_child_that_died_while_idle_costs_no_call() -> None:
    async def test(pool: Pool) -> None:
        (child,) = pool._children
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: not child.alive)
        assert (await pool.run("upscale", b"x", {})).data == b"x"
        assert child.pid not in pool.pids

    with_pool(test, size=1)


def test_a_child_that_dies_as_it_is_asked_costs_one_call() -> None:
    async def test(pool: Pool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)  # the pool has had no time to notice
        with pytest.raises(ChildDeathError, match="SIGKILL"):
            await pool.run("upscale", b"x" * (1 << 20), {})
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(pickle.dumps(Path("x")).ljust(64, b"."), id="a pickle"),
        pytest.param(PREFIX.pack(1 << 30, 0, 0, 0), id="a header too long"),
        pytest.param(PREFIX.pack(2, 1 << 60, 0, 0) + b"{}", id="a picture too long"),
        pytest.param(PREFIX.pack(2, 0, 0, 0) + b"{}", id="nothing"),
        pytest.param(b"".join(encode_reply(Ready({}))), id="the wrong frame"),
    ],
)
def test_a_child_that_sends_something_else_is_killed(frame: bytes) -> None:
    async def test(pool: Pool) -> None:
        (pid,) = pool.pids
        with pytest.raises(ChildFrameError):
            await pool.run("upscale", b"x", {"do": "forge", "frame": frame.hex()})
        await until(lambda: not psutil.pid_exists(pid))
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is honoured on Linux only")
def test_a_picture_too_large_for_the_memory_ends_the_child_and_not_the_time_allowed() -> None:
    async def test(pool: Pool) -> None:
        with pytest.raises(ChildDeathError, match="status 1"):
            await pool.run("upscale", bytes(256 << 20), {})
        assert (await pool.run("upscale", b"x", {})).data == b"x"

    with_pool(test, size=1, memory_limit_mb=320, timeout_seconds=60)


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


def test_children_share_the_cores_and_see_only_what_engines_need(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"OPENAI_API_KEY", "LC_ALL", "SSL_CERT_FILE", "HTTPS_PROXY", "no_proxy", "TMPDIR"}
    secret = {"SUPABASE_SECRET_KEY", "STRIPE_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "WORKER_HTTP_PORT"}
    for name in known | secret:
        monkeypatch.setenv(name, "C")

    async def test(pool: Pool) -> None:
        details = (await pool.run("upscale", b"x", {})).details
        assert details["threads"] == "3"
        assert isinstance(details["variables"], list)
        assert known | {"PATH"} <= set(details["variables"])
        assert not secret & set(details["variables"])

    with_pool(test, size=1, threads=3)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no /proc")
def test_a_worker_hides_its_environment_from_its_children() -> None:
    script = (
        "import ctypes; from services.images.pool import hide_from_children; hide_from_children();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "0\n"


def test_a_child_that_cannot_start_is_an_error_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def test(pool: Pool) -> None:
        raise AssertionError("entered")

    with pytest.raises(ChildDeathError, match="status 1"):
        with_pool(test, factory="tests.services.pool_runners:UnableToStart", size=1)  # two would write at once
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
    deadline = time.monotonic() + 20
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
