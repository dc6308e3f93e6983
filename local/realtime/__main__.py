"""Keeps one server running: `python -m local.realtime <stack directory>`.

A server that dies is replaced; one that never came up is not, so that the reason is seen at once.
"""

import signal
import socket
import subprocess
import sys
import time
from types import FrameType

PAUSE_SECONDS = 0.2


def watch(directory: str) -> int:
    """Until SIGTERM or SIGINT; returns the exit status."""
    server: subprocess.Popen[bytes] | None = None

    def stop(_number: int, _frame: FrameType | None) -> None:
        if server is not None:
            server.terminate()
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    has_come_up = False
    while True:
        # The server says here that it serves, and ends when this end is closed, as it is when this process dies.
        here, there = socket.socketpair()
        with here:
            command = [sys.executable, "-m", "local.realtime.server", directory]
            with there:
                server = subprocess.Popen(command, stdin=there.fileno())
            has_come_up = bool(here.recv(1)) or has_come_up
            status = server.wait()
        if not has_come_up:
            return status or 1
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1]))
