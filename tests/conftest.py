"""The stack that the tests run on: started once for the whole run, in a directory of its own, removed afterwards."""

import fcntl
import shutil
from collections.abc import Iterator

import pytest

from cli.local.stack import PROJECT, Stack, StackStatus

DIRECTORY = PROJECT / ".dtf" / "test"


@pytest.fixture(scope="session")
def local_stack() -> Iterator[Stack]:
    """The embedded stack itself, for tests that stop and start its parts."""
    DIRECTORY.parent.mkdir(exist_ok=True)
    with DIRECTORY.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.exit(f"Another test run is using {DIRECTORY}. Wait for it, or test in another checkout.", 1)
        Stack(DIRECTORY).down()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        stack = Stack(DIRECTORY)
        stack.up()
        yield stack
        stack.down()


@pytest.fixture(scope="session")
def stack(local_stack: Stack) -> StackStatus:
    """Where the test stack answers, and its keys."""
    status = local_stack.status()
    assert status is not None
    return status
