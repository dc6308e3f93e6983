"""What a stack remembers between two `dtf up`: its ports, keys and passwords, in `.dtf/state.json`."""

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

# Below those that systems give to the near ends of connections: from 32768 on Linux, from 49152 elsewhere.
SERVER_PORTS = range(20_000, 32_000)


def _secret(prefix: str = "") -> str:
    return prefix + secrets.token_urlsafe(24).replace("-", "_")


@dataclass
class StackState:
    """Ports (0: not chosen yet) and secrets of one embedded stack, and where billing is (empty: nowhere)."""

    postgres_host: str = "127.0.0.1"
    postgres_port: int = 0
    api_port: int = 0
    realtime_port: int = 0
    smtp_port: int = 0
    mail_port: int = 0
    billing_url: str = ""
    admin_password: str = field(default_factory=_secret)
    postgres_password: str = field(default_factory=_secret)
    jwt_secret: str = field(default_factory=lambda: _secret() + _secret())
    publishable_key: str = field(default_factory=lambda: _secret("sb_publishable_"))
    secret_key: str = field(default_factory=lambda: _secret("sb_secret_"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The state saved at `path`, or a new one with fresh secrets."""
        try:
            saved: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in saved.items() if key in known})

    def save(self, path: Path) -> None:
        """Write to `path`, readable by its owner only, all or nothing."""
        write_private(path, json.dumps(asdict(self), indent=2))

    @property
    def admin_url(self) -> str:
        """Address of the database for the superuser; the stack's own use."""
        return f"postgresql://supabase_admin:{self.admin_password}@{self.postgres_host}:{self.postgres_port}/postgres"

    @property
    def db_url(self) -> str:
        """Address of the database for the role that migrations run as."""
        return f"postgresql://postgres:{self.postgres_password}@{self.postgres_host}:{self.postgres_port}/postgres"

    @property
    def api_url(self) -> str:
        """The project URL."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def smtp_url(self) -> str:
        """Where the mailbox takes mails."""
        return f"smtp://127.0.0.1:{self.smtp_port}"

    @property
    def mail_url(self) -> str:
        """Where the mailbox shows them."""
        return f"http://127.0.0.1:{self.mail_port}"


def write_private(path: Path, content: str | bytes) -> None:
    """Replace the file at `path` in one step; only its owner can read it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk is found by a write, which knows no name
        raise


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0) -> int:
    """The preferred port where it is free, else any that no connection can take while its server is started again."""
    while not preferred or not port_is_free(preferred):
        preferred = SERVER_PORTS.start + secrets.randbelow(len(SERVER_PORTS))
    return preferred
