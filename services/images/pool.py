"""A fixed set of warm child processes for work that may crash, hang or eat memory.

A child is started and loads its libraries before it gets work. It is killed and replaced when a call takes
too long, when the caller gives up, after a number of calls, or when it dies; no other call notices.

Children are plain subprocesses and not `multiprocessing` ones: those would import the parent's main module,
with all of the command line, into every child, before memory is limited.

What the isolation gives: a file that crashes, hangs or floods a child costs its own operation. A file that
takes a child over finds neither the service key in the child's environment nor a way to run code in the
worker, whose frames are checked data. `hide_from_children` also closes the worker's memory and environment
in /proc to children, as long as the worker does not run as root.

What it does not give: children run as the worker's user, with its files and its network. One that was taken
over can read what that user can read, the providers' keys (OPENAI_*), and the pictures that the same child
gets afterwards (WORKER_RECYCLE_AFTER=1 gives every operation a child of its own); as root it can read the
service key too. So run the worker as a user of its own, in a container with nothing else in it.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Self

import structlog

from services.images.engines import EngineError, EngineResult, EngineSettings
from services.images.frames import (
    PREFIX,
    Crashed,
    FrameError,
    Ready,
    Reply,
    Request,
    decode_reply,
    encode_request,
    read_lengths,
)
from services.waiting import Backoff, jittered

START_TIMEOUT = 60.0  # seconds until a child must have loaded its libraries
RESTART_BACKOFF = (0.5, 30.0)  # seconds, first and longest wait after a child that could not start
PIPE_BUFFER = 4 << 20  # bytes read ahead
PR_SET_DUMPABLE = 4  # <sys/prctl.h>

# What children see of the worker's environment; everything else, the project's key above all, stays out.
CHILD_VARIABLES = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "REQUESTS_CA_BUNDLE"}) | {
    name.upper() for name in EngineSettings.model_fields
}
CHILD_PREFIXES = ("LC_", "SSL_CERT_", "PYTHON")
CHILD_SUFFIXES = ("_THREADS", "_PROXY", "_proxy")  # a hosted provider may be behind a proxy

log = structlog.get_logger(__name__)


class ChildError(Exception):
    """A call ended without an answer. The same call may succeed in another child."""


class ChildDeathError(ChildError):
    """The child process ended in the middle of a call."""


class ChildTimeoutError(ChildError):
    """The call took longer than allowed; its child was killed."""


class ChildFrameError(ChildError):
    """The child sent something that is no answer; it was killed."""


class ChildCrashError(ChildError):
    """The engine raised an exception that it should not raise; the message is its traceback."""


class Child:
    """One child process and its two pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.calls = 0

    @classmethod
    async def start(cls, factory: str, memory_limit_mb: int, threads: int) -> Self:
        """Start a child without waiting until it is warm.

        Linux kills a child when the *thread* that started it ends, so this belongs into the thread that
        lives as long as the worker. Raises ChildError where the system has no room for another.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                "from services.images.child import main; main()",
                str(os.getpid()),
                str(memory_limit_mb),
                factory,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=_child_environment(threads),
                limit=PIPE_BUFFER,
                process_group=0,  # Ctrl-C in a terminal is for the worker alone
            )
        except OSError as error:
            raise ChildError(f"a child process cannot be started: {error}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, as far as is known."""
        return self._process.returncode is None

    async def receive(self) -> Reply:
        """Wait for the next frame. Raises ChildDeathError and ChildFrameError."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for
        try:
            lengths = read_lengths(await stdout.readexactly(PREFIX.size))
            header, *parts = [await stdout.readexactly(length) for length in lengths]
            return decode_reply(header, *parts)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChildDeathError(await self._describe_end()) from error
        except FrameError as error:
            raise ChildFrameError(f"child process {self.pid}: {error}") from error

    async def call(self, request: Request) -> Reply:
        """Send one request and wait for the answer. Raises ChildDeathError and ChildFrameError."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for
        self.calls += 1
        # A child that is dead already shows in the answer.
        with contextlib.suppress(ConnectionError):
            for piece in encode_request(request):
                stdin.write(piece)  # not joined: a source may be large
            await stdin.drain()
        return await self.receive()

    async def stop(self) -> None:
        """Kill the child and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        # The only way to close all pipes at once; one left open outlives the loop if the wait is cancelled.
        self._process._transport.close()  # type: ignore[attr-defined]
        await self._process.wait()

    async def _describe_end(self) -> str:
        code = await self._process.wait()
        if code < 0:
            return f"child process {self.pid} was ended by {signal.Signals(-code).name}"
        return f"child process {self.pid} exited with status {code}"


class Pool:
    """`size` warm children. Use as an async context manager; entering waits until all are warm."""

    def __init__(
        self,
        *,
        size: int,
        factory: str,
        timeout_seconds: float,
        memory_limit_mb: int,
        recycle_after: int,
        threads: int = 1,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`factory` is the `module:name` that children call for their runner; `on_ready` is called whenever
        a replacement is warm."""
        self._size = size
        self._factory = factory
        self._timeout = timeout_seconds
        self._memory_limit_mb = memory_limit_mb
        self._recycle_after = recycle_after
        self._threads = threads
        self._on_ready = on_ready
        self._idle: asyncio.LifoQueue[Child] = asyncio.LifoQueue()
        self._children: set[Child] = set()
        self._replacements: set[asyncio.Task[None]] = set()
        self.providers: dict[str, str] = {}
        """Operation types the children can do, with the name of the provider each uses."""

    async def __aenter__(self) -> Self:
        try:
            starts = [self._start_child() for _ in range(self._size)]
            for child in await asyncio.gather(*starts, return_exceptions=True):
                if isinstance(child, BaseException):
                    raise child
                self._idle.put_nowait(child)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def warm(self) -> int:
        """Children that work or wait for work; fewer than `size` while some are being replaced."""
        return len(self._children)

    @property
    def pids(self) -> set[int]:
        """Process ids of the warm children."""
        return {child.pid for child in self._children}

    async def run(self, operation_type: str, source: bytes | None, options: dict[str, Any]) -> EngineResult:
        """Run one operation in a child, waiting for a free one.

        Raises EngineError as the engine raised it and ChildError when there was no answer. Cancelling
        kills the child.
        """
        child = await self._take_idle()
        reusable = False
        try:
            async with asyncio.timeout(self._timeout):
                answer = await child.call(Request(operation_type, source, options))
            if isinstance(answer, Ready):
                raise ChildFrameError(f"child process {child.pid} answered that it is ready")
            reusable = child.calls < self._recycle_after
        except TimeoutError:
            raise ChildTimeoutError(f"{operation_type} took longer than {self._timeout:g} s") from None
        finally:
            if reusable:
                self._idle.put_nowait(child)
            else:
                self._replace(child)
        if isinstance(answer, EngineError):
            raise answer
        if isinstance(answer, Crashed):
            raise ChildCrashError(answer.traceback)
        return answer

    async def close(self) -> None:
        """Kill all children."""
        for task in self._replacements:
            task.cancel()
        await asyncio.gather(*self._replacements, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in self._children))
        self._children.clear()

    async def _take_idle(self) -> Child:
        """Wait for a free child, passing over those that have died since they were free."""
        while not (child := await self._idle.get()).alive:
            log.warning("idle_child_died", pid=child.pid)
            self._replace(child)
        return child

    def _replace(self, child: Child) -> None:
        self._children.discard(child)
        task = asyncio.create_task(self._restart(child))
        self._replacements.add(task)
        task.add_done_callback(self._replacements.discard)

    async def _restart(self, child: Child) -> None:
        await child.stop()
        backoff = Backoff(*RESTART_BACKOFF)
        while True:
            try:
                replacement = await self._start_child()
            except ChildError as error:
                wait = backoff.next()
                log.error("child_not_started", error=str(error), retry_in_seconds=wait)
                await asyncio.sleep(jittered(wait))
            else:
                self._idle.put_nowait(replacement)
                self._on_ready()
                return

    async def _start_child(self) -> Child:
        child = await Child.start(self._factory, self._memory_limit_mb, self._threads)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                ready = await child.receive()
            if not isinstance(ready, Ready):
                raise ChildFrameError(f"child process {child.pid} answered before it was asked")
        except TimeoutError:
            await child.stop()
            raise ChildTimeoutError(f"a child process was not ready after {START_TIMEOUT:g} s") from None
        except BaseException:
            await child.stop()
            raise
        self.providers = ready.providers
        self._children.add(child)
        return child


def hide_from_children() -> None:
    """Close this process's memory and environment in /proc to other processes of its user (Linux only).

    Children start with an environment without the service key, but could read it from their parent. Root can
    still. Taking the key out of `os.environ` would not help: /proc shows the environment as it was at the start.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _child_environment(threads: int) -> dict[str, str]:
    """What children may know of the worker's environment, with a share of the cores."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in CHILD_VARIABLES or name.startswith(CHILD_PREFIXES) or name.endswith(CHILD_SUFFIXES)
    }
    limit = str(threads)
    return environment | {
        "ENGINE_THREADS": limit,
        "OMP_NUM_THREADS": limit,
        "OPENBLAS_NUM_THREADS": limit,
        "OPENCV_FOR_THREADS_NUM": limit,
        "VIPS_CONCURRENCY": limit,
        "CUDA_VISIBLE_DEVICES": "",
    }
