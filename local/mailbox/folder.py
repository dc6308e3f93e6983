"""Mails as files in one folder, the newest some of them."""

import re
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

from local.state import write_private

KEPT = 1000
ID = re.compile(r"\d{8}T\d{12}-[0-9a-f]{8}")
TIME = "%Y%m%dT%H%M%S%f"


class Folder:
    """The newest `limit` mails below `path`, each a file that only its owner can read.

    An id is the time of arrival (UTC) and chance, so names sort by age and nothing in a mail is part of one.
    """

    def __init__(self, path: Path, limit: int = KEPT) -> None:
        self.path = path
        self._limit = limit
        self._lock = threading.Lock()
        for draft in path.glob("*.new"):  # of a process that was killed
            draft.unlink()

    def keep(self, content: bytes) -> str:
        """Write a mail, all or nothing, and remove what is beyond the limit; returns its id. Raises OSError."""
        with self._lock:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            mail = f"{datetime.now(UTC).strftime(TIME)}-{secrets.token_hex(4)}"
            write_private(self._file(mail), content)
            for old in self.ids()[self._limit :]:
                self._file(old).unlink(missing_ok=True)
        return mail

    def ids(self) -> list[str]:
        """What is there, the newest first."""
        return sorted((file.stem for file in self.path.glob("*.eml") if ID.fullmatch(file.stem)), reverse=True)

    def read(self, mail: str, size: int = -1) -> bytes | None:
        """The first `size` bytes of a mail, or all; None where there is none of that id."""
        if not ID.fullmatch(mail):
            return None
        try:
            with self._file(mail).open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        """Delete every mail."""
        with self._lock:
            for mail in self.ids():
                self._file(mail).unlink(missing_ok=True)

    def _file(self, mail: str) -> Path:
        return self.path / f"{mail}.eml"


def received_at(mail: str) -> datetime:
    """When the mail of that id came."""
    return datetime.strptime(mail.partition("-")[0], TIME).replace(tzinfo=UTC)
