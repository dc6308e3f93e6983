"""The people of the database tests: each acts in transactions of his own, as PostgREST would run them.

A person's statements run under his role and his JWT claims. `sql` and `call` commit; inside `trying` everything is
rolled back.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
T = TypeVar("T")

# What nothing has as its id; not a random one, so that tests are called the same in every process of a run.
UNKNOWN = UUID("00000000-0000-4000-8000-000000000000")


def connect(db_url: str) -> Connection:
    """Open a connection as the migration role `postgres`, which may become every other role."""
    return psycopg.connect(db_url, autocommit=True, row_factory=dict_row)


@dataclass(frozen=True)
class Person:
    """Somebody with a role and, when signed in, an account."""

    connection: Connection
    role: str
    id: UUID | None = None
    email: str = ""

    def on(self, connection: Connection) -> "Person":
        """The same person on another connection, for threads."""
        return replace(self, connection=connection)

    @contextmanager
    def acting(self, *, keep: bool = True) -> Iterator[Connection]:
        """A transaction as this person; it is rolled back unless `keep`."""
        claims = {"role": self.role} | ({"sub": str(self.id), "email": self.email} if self.id else {})
        with self.connection.transaction(force_rollback=not keep):
            self.connection.execute(
                # Both forms: PostgREST sets the first, some servers read the second.
                "select set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true)",
                (json.dumps(claims), str(self.id or "")),
            )
            self.connection.execute(sql.SQL("set local role {}").format(sql.Identifier(self.role)))
            yield self.connection

    def trying(self) -> Any:
        """A transaction as this person that leaves no trace."""
        return self.acting(keep=False)

    def sql(self, statement: str, *parameters: Any) -> list[Row]:
        """Run one statement, commit, and return its rows."""
        with self.acting() as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def rows(self, function: str, **arguments: Any) -> list[Row]:
        """Call a public function by name, as an RPC does, and return its rows."""
        values = {
            key: Jsonb(value) if isinstance(value, dict | list) and key != "p_operation_types" else value
            for key, value in arguments.items()
        }
        call = sql.SQL("select * from public.{}({})").format(
            sql.Identifier(function),
            sql.SQL(", ").join(
                sql.SQL("{} => {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in arguments
            ),
        )
        with self.acting() as connection:
            return connection.execute(call, values).fetchall()

    def call(self, function: str, **arguments: Any) -> Any:
        """Call a public function: its row, or its value when it returns a single one."""
        row = self.rows(function, **arguments)[0]
        return next(iter(row.values())) if len(row) == 1 else row


class People:
    """Makes accounts the way Auth does, and removes them at the end."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.anon = Person(connection, "anon")
        self.service = Person(connection, "service_role")
        self._made: list[UUID] = []

    def new(self, *, credits: int = 2, is_active: bool = True, is_admin: bool = False, plan: str = "free") -> Person:
        """Sign somebody up who has confirmed his address and got his welcome mail, with a balance of `credits`."""
        user_id, email = uuid4(), f"{uuid4()}@example.test"
        self.connection.execute(
            "insert into auth.users (id, email, confirmation_sent_at, email_confirmed_at)"
            " values (%s, %s, now(), now())",
            (user_id, email),
        )
        self._made.append(user_id)
        self.connection.execute("update public.email_logs set status = 'sent' where user_id = %s", (user_id,))
        self.connection.execute(
            "update public.profiles set is_active = %s, is_admin = %s, subscription_status = %s where id = %s",
            (is_active, is_admin, plan, user_id),
        )
        if credits > 2:
            self.service.call("add_user_credits", p_user_id=user_id, p_amount=credits - 2, p_transaction_type="bonus")
        elif credits < 2:
            self.service.call(
                "deduct_user_credits", p_user_id=user_id, p_amount=2 - credits, p_transaction_type="expiration"
            )
        return Person(self.connection, "authenticated", user_id, email)

    def image(self, owner: Person, name: str = "shirt.png") -> UUID:
        """Upload-and-insert, as the browser does after the upload."""
        image: UUID = owner.sql(
            "insert into public.images (user_id, original_filename, original_url) values (%s, %s, %s) returning id",
            owner.id,
            name,
            f"originals/{owner.id}/{name}",
        )[0]["id"]
        return image

    def balance(self, person: Person) -> int:
        """The cached balance, read as the owner of the table."""
        row = self.connection.execute(
            "select credits_remaining from public.profiles where id = %s", (person.id,)
        ).fetchone()
        assert row is not None
        balance: int = row["credits_remaining"]
        return balance

    def ledger(self, person: Person) -> list[Row]:
        """The account's entries in their order."""
        return self.connection.execute(
            "select * from public.credit_transactions where user_id = %s order by seq", (person.id,)
        ).fetchall()

    def remove(self) -> None:
        """Delete every account that was made."""
        self.connection.execute("delete from auth.users where id = any(%s)", (self._made,))


@contextmanager
def refused(sqlstate: str, message: str = "") -> Iterator[Any]:
    """Expect an error; a PTnnn one must also carry a JSON detail for programs and a hint for people."""
    with pytest.raises(psycopg.Error) as caught:
        yield caught
    diagnosis = caught.value.diag
    assert diagnosis.sqlstate == sqlstate, f"{diagnosis.sqlstate}: {diagnosis.message_primary}"
    assert message in (diagnosis.message_primary or "")
    if sqlstate.startswith("PT"):
        assert isinstance(json.loads(diagnosis.message_detail or ""), dict)
        assert diagnosis.message_hint


def wait_until_blocked(by: Connection, connection: Connection) -> None:
    """Wait until the statement that `connection` runs in another thread waits for a lock that `by` holds."""
    deadline = time.monotonic() + 10
    with psycopg.connect(by.info.dsn, password=by.info.password, autocommit=True) as watcher:
        while True:
            row = watcher.execute("select pg_blocking_pids(%s)", (connection.info.backend_pid,)).fetchone()
            if row and by.info.backend_pid in row[0]:
                return
            assert time.monotonic() < deadline, "Nothing waits."
            time.sleep(0.01)


def together(db_url: str, tasks: Sequence[Callable[[Connection], T]]) -> list[T]:
    """Run the tasks at the same moment, each on a connection of its own; the first error is raised here."""
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[Connection], T]) -> T:
        with connect(db_url) as connection:
            start.wait(30)
            return task(connection)

    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(run, task) for task in tasks]
        return [task.result(120) for task in running]
