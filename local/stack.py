"""The local Supabase stack: the embedded one, or the `supabase start` stack where that runs.

`Stack` is what the commands `dtf up`, `down`, `status` and `logs` and the tests call. Every step looks at what is
there and does what is missing, so it can be repeated at any time, also after any of the processes was killed.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local import supabase_cli
from local.config import read_config, table
from local.environment import forget_other_servers
from local.errors import StackError
from local.gateway import Gateway
from local.mailbox.process import Mailbox
from local.migrations import outdated
from local.packages import POSTGRES, require
from local.postgres import Postgres
from local.realtime.process import Realtime
from local.state import StackState, port_is_free

PROJECT = Path(__file__).resolve().parents[1]
STATE = "state.json"
BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")

KEEP = "To keep the data, go on with the version of this project that made it."

Report = Callable[[str], None]


@dataclass(frozen=True)
class StackStatus:
    """Where a running stack answers, and its keys; `kind` is `embedded` or `supabase`.

    `web_url` is where the web client is served, None where it is not; `jwt_secret` signs users' tokens where they are
    not signed with a key that the stack publishes. A mailbox takes mails at `smtp_url` and shows them at `mail_url`.
    """

    kind: str
    api_url: str
    db_url: str
    publishable_key: str
    secret_key: str
    web_url: str | None = None
    jwt_secret: str | None = None
    mail_url: str | None = None
    smtp_url: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The fields by name, as `dtf status --json` prints them."""
        return asdict(self)


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the stack's data lies: `.dtf` in the checkout, or $DTF_DIRECTORY."""
    return Path(environment.get("DTF_DIRECTORY") or PROJECT / ".dtf").resolve()


def told_billing_url() -> str:
    """Where `dtf up` was told that billing is; empty where it was not."""
    return StackState.load(default_directory() / STATE).billing_url


def prepare_database(gateway: Gateway, state: StackState) -> None:
    """Give a plain database what a hosted project has before its first migration."""
    import psycopg

    gateway.provision()
    with psycopg.connect(state.admin_url, autocommit=True) as connection, connection.transaction():
        connection.execute(BOOTSTRAP.read_bytes())
        connection.execute(psycopg.sql.SQL("alter role postgres password {}").format(state.postgres_password))


class Stack:
    """The embedded stack with its data in `directory`; it runs at most once per directory.

    `binaries` is the folder of the Postgres to run: one directory, one major version. Raises StackError where the
    stack's programs are not installed.
    """

    def __init__(self, directory: Path | None = None, project: Path = PROJECT, binaries: Path = POSTGRES) -> None:
        require()
        forget_other_servers()
        self.directory = directory or default_directory()
        self.project = project
        self.binaries = binaries
        self._load()

    def _load(self) -> None:
        self.state = StackState.load(self._state_path)
        self.postgres = Postgres(self.directory, self.state, self.binaries)
        self.realtime = Realtime(self.directory, self.state)
        self.mailbox = Mailbox(self.directory, self.state)
        self.gateway = Gateway(self.directory, self.project, self.state)

    @property
    def _state_path(self) -> Path:
        return self.directory / STATE

    def logs(self) -> dict[str, Path]:
        """Log files by the part that writes them."""
        return {
            "postgres": self.postgres.log,
            "realtime": self.realtime.log,
            "mailbox": self.mailbox.log,
            "gateway": self.gateway.log,
        }

    def up(
        self, api_port: int | None = None, billing_url: str | None = None, report: Report = lambda _: None
    ) -> StackStatus:
        """Start what does not run, apply what is missing of the migrations and the seed.

        The web client is told where billing is: at `billing_url`, nowhere where it is empty, or as last time.
        Raises StackError where a port is taken, a tool is missing, a migration fails, or one that is applied was
        changed; what already ran goes on.
        """
        supabase_cli.executable(self.project)
        with self._locked():
            self._check_port(api_port)
            if billing_url is not None:
                self.state.billing_url = billing_url
            self.state.save(self._state_path)  # before the first use of its passwords
            report("Starting Postgres")
            self.postgres.start()
            self.state.save(self._state_path)
            if self._is_new():
                report("Creating the auth and storage schemas")
                prepare_database(self.gateway, self.state)
            report("Applying the migrations")
            if told := outdated(self.project, self.state.admin_url):
                anew = f"To begin with empty tables: dtf down, delete {self.directory}, dtf up."
                raise StackError(f"{told}. {anew} {KEEP}")
            before = self._schema_version()
            supabase_cli.push(self.project, self.state.db_url)
            if not (self.realtime.running() and self.realtime.is_up_to_date()):
                report("Starting Realtime")
                self.realtime.start()
            if not self.mailbox.running():
                report("Starting the mailbox")
                self.mailbox.start()
            # It reads the schema when it starts, as its settings.
            is_up_to_date = before == self._schema_version() and self.gateway.is_up_to_date()
            moves = api_port is not None and api_port != self.state.api_port
            if moves or not is_up_to_date or not self.gateway.running():
                report("Starting the gateway")
                self.gateway.start(api_port)
            self.state.save(self._state_path)
        return self._status()

    def down(self) -> None:
        """Stop everything that belongs to this directory. The data stays."""
        with self._locked():
            self.gateway.stop()
            self.mailbox.stop()
            self.realtime.stop()
            self.postgres.stop()

    def status(self) -> StackStatus | None:
        """The running stack, or None where a part of it does not answer."""
        parts = (self.gateway, self.mailbox, self.realtime, self.postgres)
        return self._status() if all(part.running() for part in parts) else None

    def _status(self) -> StackStatus:
        state = self.state
        # The gateway serves the web client at the project URL.
        return StackStatus(
            "embedded",
            state.api_url,
            state.db_url,
            state.publishable_key,
            state.secret_key,
            state.api_url,
            state.jwt_secret,
            state.mail_url,
            state.smtp_url,
        )

    def _check_port(self, api_port: int | None) -> None:
        if api_port is None or port_is_free(api_port):
            return
        if api_port != self.state.api_port or not self.gateway.processes():
            raise StackError(
                f"Port {api_port} is taken by another program, or needs more rights than yours (below 1024)."
                " Choose another with --port."
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time: a second `dtf up` waits for the first and then finds the work done."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._load()
            yield

    def _is_new(self) -> bool:
        """Whether the last step of the bootstrap has not been done."""
        import psycopg

        with psycopg.connect(self.state.admin_url, autocommit=True) as connection:
            done = connection.execute(
                "select exists (select from pg_namespace where nspname = 'supabase_migrations'"
                " and nspowner::regrole::text = 'postgres')"
            ).fetchone()
        return done != (True,)

    def _schema_version(self) -> list[str]:
        import psycopg

        with psycopg.connect(self.state.admin_url, autocommit=True) as connection:
            rows = connection.execute("select version from supabase_migrations.schema_migrations order by 1")
            return [row[0] for row in rows]


class DockerStack:
    """The stack of `supabase start`, with the same three calls as the embedded one."""

    def __init__(self, project: Path = PROJECT) -> None:
        self.project = project

    def status(self) -> StackStatus | None:
        """The running stack, or None where Docker does not run it."""
        variables = supabase_cli.docker_stack(self.project)
        if variables is None:
            return None
        try:
            return StackStatus(
                "supabase",
                variables["API_URL"],
                variables["DB_URL"],
                variables.get("PUBLISHABLE_KEY") or variables["ANON_KEY"],
                variables.get("SECRET_KEY") or variables["SERVICE_ROLE_KEY"],
                jwt_secret=variables.get("JWT_SECRET"),
                mail_url=variables.get("MAILPIT_URL"),
                smtp_url=self._smtp_url(),
            )
        except KeyError as missing:
            raise StackError(f"`supabase status` does not tell {missing}. Is the whole stack started?") from missing

    def _smtp_url(self) -> str | None:
        """Where its Mailpit takes mails from outside Docker: at a port that supabase/config.toml has to open."""
        port = table(read_config(self.project), "local_smtp").get("smtp_port")
        return f"smtp://127.0.0.1:{port}" if port else None

    def up(self) -> StackStatus | None:
        """Apply what is missing of the migrations and the seed to the running stack; None where there is none."""
        status = self.status()
        if status is not None:
            if told := outdated(self.project, status.db_url):
                raise StackError(f"{told}. To begin with empty tables: dtf supabase db reset. {KEEP}")
            supabase_cli.push(self.project, status.db_url)
        return status

    def down(self) -> None:
        """Stop it; its data stays in Docker volumes."""
        supabase_cli.stop(self.project)


def running_stack() -> StackStatus:
    """The stack that runs for this checkout, `supabase start` first; StackError says how to start one."""
    status = DockerStack().status() or Stack().status()
    if status is None:
        raise StackError("No stack is running. Start one with: dtf up")
    return status
