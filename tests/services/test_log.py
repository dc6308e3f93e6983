"""Logs that cannot be written."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

SPEAK = """
import logging, structlog
from services.log import configure_logging
configure_logging()
structlog.get_logger().error("of_a_service")
logging.getLogger("library").error("of a library")
print("goes on")
"""


@contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


@contextmanager
def gone_reader() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("unwritable", [full_disk, gone_reader])
def test_a_service_goes_on_where_its_log_cannot_be_written(
    unwritable: Callable[[], AbstractContextManager[int]],
) -> None:
    with unwritable() as log:
        ended = subprocess.run([sys.executable, "-c", SPEAK], stdout=subprocess.PIPE, stderr=log, text=True)
    assert (ended.returncode, ended.stdout) == (0, "goes on\n")
