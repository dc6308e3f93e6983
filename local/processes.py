"""Start, find and stop the stack's processes.

A process is recognised by its command line, which always names the stack's own directory, or, once that was moved, by
the directory it works in. There are no pid files that could outlive their process or name somebody else's.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from local.environment import own
from local.errors import StackError

STOP_SECONDS = 15.0
ANSWER_SECONDS = 3.0


def find(arguments: Sequence[str]) -> list[psutil.Process]:
    """Running processes whose command line contains `arguments` in this order, one after the other."""
    return [process for process in running() if _contains(process.info["cmdline"], arguments)]


def find_all(arguments: Sequence[str], mark: str, directory: Path) -> list[psutil.Process]:
    """Those of `find`, and those that it no longer finds because their files were moved while they ran.

    These work in `directory`, and a part of their command line is `mark`, or a file of this name.
    """
    return [
        process
        for process in running()
        if _contains(process.info["cmdline"], arguments)
        or (any(Path(part).name == mark for part in process.info["cmdline"]) and _works_in(process, directory))
    ]


def work_in(directory: Path) -> list[psutil.Process]:
    """Processes whose working directory this is."""
    return [process for process in psutil.process_iter() if _works_in(process, directory)]


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.cwd() == str(directory)
    except psutil.Error:  # somebody else's, or ended by now
        return False


def running() -> Iterator[psutil.Process]:
    """Every process that runs, with its command line."""
    for process in psutil.process_iter(["cmdline", "status", "ppid"]):
        if process.info["cmdline"] and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process


def _contains(command: list[str], arguments: Sequence[str]) -> bool:
    wanted = list(arguments)
    return any(command[i : i + len(wanted)] == wanted for i in range(len(command) - len(wanted) + 1))


def start(command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one; its output is appended to `log`, which only its owner can read."""
    log.touch(mode=0o600)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=own(**env),
            cwd=cwd,
            start_new_session=True,
        )


def stop(processes: Sequence[psutil.Process], signal_number: int) -> None:
    """Ask the processes to end, wait, and kill those that do not."""
    for process in processes:
        try:
            process.send_signal(signal_number)
        except psutil.NoSuchProcess:
            continue
    alive = _wait_for_end(processes)
    for process in alive:
        for member in [*process.children(recursive=True), process]:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
    _wait_for_end(alive)


def _wait_for_end(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Wait up to STOP_SECONDS; returns the processes that have not ended.

    One that has ended counts even while its parent takes no note of it: the first process of a container may never.
    It looks so when its first thread has ended; while another one has not, its ports are still taken.
    """
    deadline = time.monotonic() + STOP_SECONDS
    alive = list(processes)
    while (alive := [process for process in alive if not _has_ended(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return alive


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float, name: str, log: Path
) -> None:
    """Wait until `ready()`; a StackError quotes the log's end if the process exits or time runs out."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise StackError(f"{name} stopped while starting: {last_line(log)} The whole log is in {log}.")
        if time.monotonic() > deadline:
            raise StackError(f"{name} did not answer within {seconds:.0f} s: {last_line(log)} See {log}.")
        time.sleep(0.03)


def serves(url: str) -> bool:
    """Whether the address of a health check answers that all is well."""
    import httpx

    try:
        return httpx.get(url, timeout=ANSWER_SECONDS, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    try:
        lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return "it left no log."
    telling = [line for line in lines if "FATAL" in line or "rror" in line]
    return f"«{(telling or lines or ['it left no log'])[-1]}»."
