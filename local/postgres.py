"""The Postgres server of the embedded stack: a package's binaries, data under the stack's directory."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from local import processes
from local.environment import own
from local.errors import StackError
from local.packages import POSTGRES
from local.state import StackState, free_port, write_private

START_SECONDS = 60.0
START_ATTEMPTS = 5

# Logical decoding for Realtime, with a bound on the log that a reader who has stopped may hold back; room for workers
# and tests; nothing on a socket file (their paths are limited to 107 bytes, a checkout's is not). The log goes to
# standard output, which the stack appends to a file.
SETTINGS = {
    "wal_level": "logical",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_slot_wal_keep_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
}


def as_allowed_user() -> list[str]:
    """Prefix for commands that refuse to run as root, or as somebody without a name, which some containers give: a
    user namespace in which his files belong to another user of this machine.

    Unlike changing to that user it keeps access to a checkout below /root. Raises StackError.
    """
    uid = os.geteuid()
    if uid == 0:
        refusal = "Postgres refuses to run as root"
    elif not _has_name(uid):
        refusal = f"Postgres refuses to run as a user without a name, and /etc/passwd has none for {uid}"
    else:
        return []
    unshare = shutil.which("unshare")
    if unshare is None:
        raise StackError(
            f"{refusal}, and the command unshare (Debian package util-linux), which lets it run as another one, is"
            " missing. Install it, or run dtf as a normal user."
        )
    other = next(user for user in pwd.getpwall() if user.pw_uid != 0)  # every system has one: nobody
    prefix = [unshare, "--user", f"--map-user={other.pw_uid}", f"--map-group={other.pw_gid}"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        raise StackError(
            f"{refusal}, and this machine, or its container, does not allow user namespaces, which let it run as"
            " another one. Run dtf as a normal user."
        )
    return prefix


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


class Postgres:
    """One server; `directory` is the stack's, the data lies in `directory/postgres`, `binaries` has `initdb`."""

    def __init__(self, directory: Path, state: StackState, binaries: Path = POSTGRES) -> None:
        self.directory = directory
        self.data = directory / "postgres"
        self.log = directory / "postgres.log"
        self.state = state
        self.binaries = binaries

    def running(self) -> bool:
        """Whether the server process is there and answers."""
        return bool(processes.find(self._command_line)) and self._answers()

    def start(self) -> None:
        """Create the data directory where it is missing and start the server on a free port.

        Another program can take the port between the choice and the start, and after a crash the dead server's
        last children may hold its shared memory for a moment: both are tried again.
        """
        if self.running():
            return
        self.kill_leftovers()
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        for attempt in range(START_ATTEMPTS):
            self.state.postgres_port = free_port(self.state.postgres_port)
            try:
                self._start_once()
                break
            except StackError:
                self.kill_leftovers()
                if attempt == START_ATTEMPTS - 1:
                    raise
                time.sleep(1)

    def stop(self) -> None:
        """Fast shutdown: clients are disconnected, nothing committed is lost."""
        processes.stop(self.processes(), signal.SIGINT)

    def kill_leftovers(self) -> None:
        """End a server process that no longer answers, or whose data was moved, and take away what a dead one left.

        Postgres believes its lock file where the process has not been reaped, as in a container whose first process
        never does, and where another process has its number by now.
        """
        processes.stop(self.processes(), signal.SIGQUIT)
        if not processes.work_in(self.data.resolve()):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """The server process, if it is there."""
        return processes.find_all(self._command_line, "-D", self.data)

    @property
    def _command_line(self) -> list[str]:
        return ["-D", str(self.data), "-p"]

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.state.admin_url, connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        draft = self.directory / "postgres.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self.directory / "password"
        # fmt: off
        command = [
            *as_allowed_user(), str(self.binaries / "initdb"), "-D", str(draft), "-U", "supabase_admin",
            "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8",
        ]
        # fmt: on
        try:
            write_private(password, self.state.admin_password)
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=own())
        finally:
            password.unlink(missing_ok=True)
        if done.returncode != 0:
            raise StackError(f"Postgres could not create its data directory {self.data}: {done.stderr.strip()}")
        draft.replace(self.data)

    def _start_once(self) -> None:
        options = [item for name, value in SETTINGS.items() for item in ("-c", f"{name}={value}")]
        # fmt: off
        command = [
            *as_allowed_user(), str(self.binaries / "postgres"),
            *self._command_line, str(self.state.postgres_port), *options,
        ]
        # fmt: on
        process = processes.start(command, self.log, {"TZ": "UTC"}, self.directory)
        processes.wait_until(self._answers, process, START_SECONDS, "Postgres", self.log)
