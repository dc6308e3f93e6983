"""The mailbox of the embedded stack, as the stack starts and stops it."""

import signal
import sys
from pathlib import Path

import psutil

from local import processes
from local.state import StackState, free_port

START_SECONDS = 60.0
MODULE = "local.mailbox"


class Mailbox:
    """One server for mails and the page that shows them."""

    def __init__(self, directory: Path, state: StackState) -> None:
        self.directory = directory
        self.log = directory / "mailbox.log"
        self.state = state

    def running(self) -> bool:
        """Whether the process is there and answers."""
        return bool(processes.find(self._command_line)) and self._answers()

    def start(self) -> None:
        """Start on the ports of last time where they are free, else on any free ones."""
        self.stop()
        self.state.smtp_port = free_port(self.state.smtp_port)
        self.state.mail_port = free_port(self.state.mail_port)
        ports = [str(self.state.smtp_port), str(self.state.mail_port)]
        command = [sys.executable, *self._command_line, *ports]
        process = processes.start(command, self.log, {}, self.directory)
        processes.wait_until(self._answers, process, START_SECONDS, "The mailbox", self.log)

    def stop(self) -> None:
        """End it; the mails stay."""
        processes.stop(self.processes(), signal.SIGTERM)

    def processes(self) -> list[psutil.Process]:
        """The process, if it is there."""
        return processes.find_all(self._command_line, MODULE, self.directory)

    @property
    def _command_line(self) -> list[str]:
        return ["-m", MODULE, str(self.directory)]

    def _answers(self) -> bool:
        # The page is served after mails are taken.
        return processes.serves(f"{self.state.mail_url}/healthz")
