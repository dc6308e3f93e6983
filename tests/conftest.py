"""The stack that the tests run on: started once for each process of the run, in a directory of its own.

`pytest -n 2` runs two processes, which share nothing: each has a stack, and any test file may follow any other there.
"""

import fcntl
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from local.stack import PROJECT, Stack, StackStatus
from services.proxies import spare_loopback
from tests.stacks import new_stack

# Tests talk to this machine, as what they start does.
spare_loopback()

WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # one of the processes of `pytest -n`
DIRECTORY = PROJECT / ".dtf" / f"test-{WORKER or 'gw0'}"


class WholeFiles(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process one test file after the other, and the tests on another Postgres server all to one."""

    def _split_scope(self, nodeid: str) -> str:
        other = re.match(r"tests/database/.*?\[(?!17\b)(\w+)", nodeid)
        return other[1] if other else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> WholeFiles:
    """How `pytest -n` distributes the tests."""
    return WholeFiles(config, log)


@contextmanager
def the_only_run() -> Iterator[None]:
    """Keep a second run away from the stacks of this checkout's tests."""
    (PROJECT / ".dtf").mkdir(exist_ok=True)
    with (PROJECT / ".dtf" / "test.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.exit("Another test run is using this checkout's stacks. Wait for it, or test in another one.", 1)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """With `pytest -n`, the parent of the processes keeps others away."""
    with the_only_run() if session.config.option.numprocesses else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def local_stack() -> Iterator[Stack]:
    """The embedded stack itself, for tests that stop and start its parts."""
    with nullcontext() if WORKER else the_only_run():
        stack = new_stack(DIRECTORY)
        yield stack
        stack.down()


@pytest.fixture(scope="session")
def stack(local_stack: Stack) -> StackStatus:
    """Where the test stack answers, and its keys."""
    status = local_stack.status()
    assert status is not None
    return status
