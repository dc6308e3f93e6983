"""The Realtime process of the embedded stack, as the stack starts and stops it."""

import json
import signal
import sys
from pathlib import Path

import psutil

from local import processes
from local.state import StackState, free_port, write_private

START_SECONDS = 60.0
PARENT = "local.realtime"
SERVER = "local.realtime.server"


class Realtime:
    """One server; it is reached through the gateway."""

    def __init__(self, directory: Path, state: StackState) -> None:
        self.directory = directory
        self.log = directory / "realtime.log"
        self.state = state

    def running(self) -> bool:
        """Whether the process is there and answers."""
        return bool(processes.find(self._command_line(PARENT))) and self._answers()

    def start(self) -> None:
        """Start on the port of last time where it is free, else on any free one."""
        self.stop()
        self.state.realtime_port = free_port(self.state.realtime_port)
        write_private(self._settings_path, self._settings())
        command = [sys.executable, *self._command_line(PARENT)]
        process = processes.start(command, self.log, {}, self.directory)
        processes.wait_until(self._answers, process, START_SECONDS, "Realtime", self.log)

    def stop(self) -> None:
        """End it; clients are disconnected."""
        processes.stop(self._processes(PARENT), signal.SIGTERM)
        processes.stop(self._processes(SERVER), signal.SIGTERM)

    def processes(self) -> list[psutil.Process]:
        """The parent that watches over the server, and the server, as far as they are there."""
        return self._processes(PARENT) + self._processes(SERVER)

    def _processes(self, module: str) -> list[psutil.Process]:
        return processes.find_all(self._command_line(module), module, self.directory)

    def _command_line(self, module: str) -> list[str]:
        return ["-m", module, str(self.directory)]

    def is_up_to_date(self) -> bool:
        """Whether it was last started with the ports and keys of now."""
        return self._settings_path.exists() and self._settings_path.read_text("utf-8") == self._settings()

    @property
    def _settings_path(self) -> Path:
        return self.directory / "realtime.json"

    def _settings(self) -> str:
        settings = {
            "port": self.state.realtime_port,
            "database_url": self.state.admin_url,
            "jwt_secret": self.state.jwt_secret,
            "publishable_key": self.state.publishable_key,
            "secret_key": self.state.secret_key,
        }
        return json.dumps(settings, indent=2)

    def _answers(self) -> bool:
        return processes.serves(f"http://127.0.0.1:{self.state.realtime_port}/health")
