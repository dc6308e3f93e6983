"""The child process that runs engines: one request at a time, from standard input to standard output.

Pictures are hostile and picture libraries are C, so they are decoded here, where a crash, a hang or a
flood of memory costs one operation and not the worker. Started by `services.images.pool` as

    python -c 'from services.images.child import main; main()' PARENT_PID MEMORY_LIMIT_MB module:factory

and not with -m, which would load this module twice, for the factory is in it. The factory is called once,
before the first request, and returns a `Runner`. `services.images.frames` says what goes through the pipes.
"""

import contextlib
import ctypes
import faulthandler
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from services.images.engines import EngineError, EngineResult, EngineSettings, build_engines, run_operation
from services.images.frames import (
    PREFIX,
    Crashed,
    Ready,
    Reply,
    Request,
    decode_request,
    encode_reply,
    read_lengths,
)

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Runner(Protocol):
    """What a child does: `providers` maps each operation type it can do to its provider's name."""

    providers: Mapping[str, str]

    def __call__(self, operation_type: str, source: bytes | None, options: dict[str, Any]) -> EngineResult:
        """Run one operation. Raises EngineError when there is no result."""


class EngineRunner:
    """Runs the configured engines."""

    def __init__(self) -> None:
        self._engines = build_engines(EngineSettings())
        self.providers = {name: engine.name for name, engine in self._engines.items()}

    def __call__(self, operation_type: str, source: bytes | None, options: dict[str, Any]) -> EngineResult:
        """Run one operation with its engine."""
        return run_operation(self._engines[operation_type], source, options)


def main() -> None:
    """Serve requests until standard input ends."""
    parent_pid, memory_limit_mb, factory_path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    # The parent decides when a child ends; a signal to the whole group must not cut a job that is draining.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    _die_with_parent(parent_pid)
    _limit_memory(memory_limit_mb)
    incoming, outgoing = _take_over_pipes()
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(incoming, requests), daemon=True).start()

    module, _, factory = factory_path.partition(":")
    runner: Runner = getattr(importlib.import_module(module), factory)()
    _write_frame(outgoing, encode_reply(Ready(dict(runner.providers))))
    while True:
        _write_frame(outgoing, _answer(runner, requests.get()))


def _answer(runner: Runner, request: Request) -> list[bytes]:
    try:
        reply: Reply
        try:
            reply = runner(request.operation_type, request.source, request.options)
        except EngineError as error:
            reply = error
        return encode_reply(reply)  # fails when an engine's details are not JSON
    except Exception:  # noqa: BLE001 - a fault of one engine is reported, the child goes on
        return encode_reply(Crashed(traceback.format_exc()))


def _read_requests(incoming: BinaryIO, requests: queue.SimpleQueue[Request]) -> None:
    """Pass requests on. The end of the pipe ends the process at once, even in the middle of a job, and so does
    a request that cannot be read: its caller would wait for an answer that nobody works on."""
    status = 1
    try:
        while prefix := incoming.read(PREFIX.size):
            header, source, *_ = (incoming.read(length) for length in read_lengths(prefix))
            requests.put(decode_request(header, source))
        status = 0
    except Exception:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        os._exit(status)


def _write_frame(outgoing: BinaryIO, frame: list[bytes]) -> None:
    try:
        outgoing.writelines(frame)
        outgoing.flush()
    except BrokenPipeError:  # the parent is gone
        os._exit(0)


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes for frames; libraries that print reach standard error instead."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return incoming, outgoing


def _die_with_parent(parent_pid: int) -> None:
    """Ask Linux for SIGKILL when the parent dies: works in C code that never lets go of the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the request was made
        os._exit(0)


def _limit_memory(limit_mb: int) -> None:
    if sys.platform != "linux":  # macOS refuses RLIMIT_AS
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit_mb << 20, limit_mb << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # When the machine runs out of memory, a child goes before the worker or the database.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
