"""Logs that cannot be written, and what would flood them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

SPEAK = """
import logging, structlog
from services.log import configure_logging
configure_logging()
structlog.get_logger().error("of_a_service")
logging.getLogger("library").error("of a library")
print("goes on")
"""

SERVE_WITH_FEW_FILES = """
import asyncio, resource
from services.health import health_app
from services.log import configure_logging
from services.process import serve
from prometheus_client import CollectorRegistry

async def run():
    app = health_app(lambda: (True, {}), CollectorRegistry())
    async with serve(app, "127.0.0.1", 0, "PORT"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        await asyncio.sleep(3600)

configure_logging()
asyncio.run(run())
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


def test_a_service_without_files_for_connections_says_so_once_and_recovers(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def said(event: str) -> Any:
        deadline = time.monotonic() + 20
        while not (found := [line for line in map(json.loads, complete_lines()) if line["event"] == event]):
            assert time.monotonic() < deadline, complete_lines()
            time.sleep(0.02)
        return found[0]

    def complete_lines() -> list[str]:
        return log.read_text().rpartition("\n")[0].splitlines()

    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SERVE_WITH_FEW_FILES], stderr=output)
    try:
        port = said("http_opened")["port"]
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        assert "Too many open files" in said("connections_not_accepted")["error"]
        time.sleep(1.5)  # asyncio tries again after a second
        for connection in held:
            connection.close()
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code == 200
    finally:
        process.kill()
        process.wait()
    assert len(complete_lines()) == 2
