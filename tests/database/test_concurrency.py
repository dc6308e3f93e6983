"""Everybody at once: ledger and queue on many connections, while transactions are rolled back and sessions killed.

Whatever was confirmed must be there afterwards, once; whatever was not may be there or not, but never half.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database.personas import Connection, People, Person, Row, connect, together

CONNECTIONS = 10
CALLS = 1_100  # of each connection
ROLLED_BACK = 0.08  # of the calls
KILLS = 40
# What a caller may be told when others were faster: too few credits, not there (any more), no longer possible.
REFUSALS = {"PT402", "PT404", "PT409", "PT429"}

pytestmark = [pytest.mark.usefixtures("empty_queue"), pytest.mark.timeout(400)]


@dataclass
class World:
    """What the callers share, and what the database has confirmed to them."""

    users: list[Person]
    images: dict[UUID | None, list[UUID]]
    operations: list[UUID] = field(default_factory=list)
    completed: list[UUID] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    leases: list[Row] = field(default_factory=list)
    grants: list[UUID] = field(default_factory=list)
    clawbacks: list[UUID] = field(default_factory=list)
    usages: list[UUID] = field(default_factory=list)
    backends: dict[int, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)


class Caller:
    """One connection that does one random thing after the other."""

    def __init__(self, number: int, world: World, people: People, db_url: str) -> None:
        self._number, self._world, self._people, self._db_url = number, world, people, db_url
        self._random = random.Random(number)  # noqa: S311
        self._connection = self._connect()

    def _connect(self) -> Connection:
        connection = connect(self._db_url)
        self._world.backends[self._number] = connection.info.backend_pid
        return connection

    def run(self) -> None:
        steps = [self.credit, self.deduct, self.grant, self.expire, self.claw_back, self.reverse, self.refund]
        steps += [self.request] * 5 + [self.cancel, self.release, self.extend, self.fail, self.sweep]
        steps += [self.claim, self.claim, self.complete, self.complete_and_claim, self.complete_and_claim]
        for _ in range(CALLS):
            step = self._random.choice(steps)
            self._world.outcomes[self._try(step)] += 1
        self._connection.close()

    def _try(self, step: Callable[[], None]) -> str:
        try:
            step()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            # Killed. 40P01, a deadlock, is an OperationalError too.
            assert error.sqlstate in (None, "57P01"), error
            self._connection.close()
            self._connection = self._connect()
            return "killed"
        except psycopg.errors.InternalError_ as error:
            # A race of Postgres' own, which rolls the call back: an updater that the commit log calls aborted is one of
            # those in progress for a moment more, so who locks the row now finds it free and him still on it.
            assert "more than one updating member" in str(error), f"{step.__name__}: {error}"
            return "raced"
        except psycopg.Error as error:
            assert error.sqlstate in REFUSALS, f"{step.__name__}: {error}"
            return error.sqlstate
        return step.__name__

    def _call(self, person: Person, function: str, **arguments: Any) -> list[Row] | None:
        """Call a function; the rows, or None when the transaction was rolled back after it."""
        acting = person.on(self._connection)
        if self._random.random() >= ROLLED_BACK:
            return acting.rows(function, **arguments)
        with acting.trying():
            # `rows` opens a savepoint inside this transaction, which takes it back.
            acting.rows(function, **arguments)
        return None

    def _service(self, function: str, **arguments: Any) -> list[Row] | None:
        return self._call(self._people.service, function, **arguments)

    def _pick(self, things: list[Any]) -> Any:
        return self._random.choice(things[-60:]) if things else None

    def _user(self) -> Person:
        return self._random.choice(self._world.users)

    # Credits

    def credit(self) -> None:
        key = str(uuid4())
        call = {"p_user_id": self._user().id, "p_amount": self._random.randint(1, 5), "p_transaction_type": "bonus"}
        if self._service("add_user_credits", **call, p_idempotency_key=key) is not None:
            self._world.keys.append(key)
            self._service("add_user_credits", **call, p_idempotency_key=key)

    def deduct(self) -> None:
        key = str(uuid4())
        call = {"p_user_id": self._user().id, "p_amount": self._random.randint(1, 3), "p_transaction_type": "usage"}
        if self._service("deduct_user_credits", **call, p_idempotency_key=key) is not None:
            self._world.keys.append(key)
            rows = self._connection.execute(
                "select id from public.credit_transactions where idempotency_key = %s", (key,)
            ).fetchall()
            self._world.usages += [row["id"] for row in rows]

    def grant(self) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=self._random.uniform(0.2, 5))
        rows = self._service(
            "grant_credits",
            p_user_id=self._user().id,
            p_amount=self._random.randint(1, 6),
            p_transaction_type="purchase",
            p_expires_at=self._random.choice([None, None, ends]),
            p_priority=self._random.randint(0, 2),
        )
        self._world.grants += [row["id"] for row in rows or []]

    def expire(self) -> None:
        self._service("expire_credits", p_limit=3)

    def claw_back(self) -> None:
        if grant := self._pick(self._world.grants):
            rows = self._service("clawback_credits", p_grant_id=grant, p_amount=1, p_reason="Charged back.")
            self._world.clawbacks += [row["id"] for row in rows or []]

    def reverse(self) -> None:
        if clawback := self._pick(self._world.clawbacks):
            self._service("reverse_clawback", p_clawback_id=clawback, p_reason="Won.")

    def refund(self) -> None:
        if usage := self._pick(self._world.usages):
            self._service("refund_transaction", p_transaction_id=usage, p_description="Sorry.")

    # The queue

    def request(self) -> None:
        user = self._user()
        rows = self._call(
            user,
            "request_image_operation",
            p_image_id=self._random.choice(self._world.images[user.id]),
            p_operation_type=self._random.choice(["upscale", "vectorize"]),
        )
        self._world.operations += [row["id"] for row in rows or []]

    def cancel(self) -> None:
        if operation := self._pick(self._world.operations):
            for user in self._world.users:
                try:
                    self._call(user, "cancel_image_operation", p_operation_id=operation)
                except psycopg.Error as error:
                    if error.sqlstate != "PT404":  # what a stranger is told
                        raise

    def claim(self) -> None:
        limit, claim_id = self._random.randint(1, 4), uuid4()
        rows = self._service("claim_image_operations", p_worker_id="w", p_limit=limit, p_claim_id=claim_id)
        self._world.leases += rows or []
        if self._random.random() < 0.2:  # as if the answer had been lost
            self._service("claim_image_operations", p_worker_id="w", p_limit=limit, p_claim_id=claim_id)

    def _lease(self) -> dict[str, Any] | None:
        job = self._pick(self._world.leases)
        return job and {"p_operation_id": job["id"], "p_lease_token": job["lease_token"]}

    def extend(self) -> None:
        if lease := self._lease():
            self._service("extend_image_operation_lease", **lease)

    def release(self) -> None:
        if lease := self._lease():
            self._service("release_image_operation", **lease)

    def fail(self) -> None:
        if lease := self._lease():
            retryable = self._random.random() < 0.7
            self._service("fail_image_operation", **lease, p_error_message="x", p_retryable=retryable)
            self._connection.execute(
                "update public.image_operations set run_after = now() where id = %s and status = 'pending'",
                (lease["p_operation_id"],),
            )

    def sweep(self) -> None:
        """As if some workers had been silent for too long."""
        self._connection.execute(
            "update public.image_operations set lease_expires_at = now() - interval '1 second' where id in ("
            " select id from public.image_operations where status = 'processing' limit 2 for update skip locked)"
        )
        self._service("requeue_lost_image_operations", p_limit=2)

    def complete(self) -> None:
        job = self._pick(self._world.leases)
        if job and self._service("complete_image_operation", **result(job)) is not None:
            self._world.completed.append(job["id"])

    def complete_and_claim(self) -> None:
        if job := self._pick(self._world.leases):
            following = self._service(
                "complete_and_claim_image_operation", **result(job), p_usage=Jsonb([]), p_worker_id="w"
            )
            if following is not None:
                self._world.completed.append(job["id"])
                self._world.leases += following


def result(job: Row) -> dict[str, Any]:
    folder = f"results/{job['user_id']}/{job['id']}"
    return {
        "p_operation_id": job["id"],
        "p_lease_token": job["lease_token"],
        "p_api_provider": "waifu2x",
        "p_output": {"url": f"{folder}/a.png", "thumbnail_url": f"{folder}/a.webp"},
        "p_processing_time": Decimal(1),
    }


def kill_sessions(world: World, db: Connection, over: threading.Event) -> None:
    chance = random.Random("killer")  # noqa: S311
    for _ in range(KILLS):
        if over.wait(chance.uniform(0.02, 0.5)):
            return
        db.execute("select pg_terminate_backend(%s)", (chance.choice(list(world.backends.values())),))


def finish(people: People, db: Connection) -> None:
    """Workers without faults end what is left."""
    while True:
        db.execute("update public.image_operations set run_after = now() where status = 'pending'")
        db.execute(
            "update public.image_operations set lease_expires_at = now() - interval '1 s' where status = 'processing'"
        )
        jobs = people.service.rows("claim_image_operations", p_worker_id="w", p_limit=100)
        for job in jobs:
            people.service.call("complete_image_operation", **result(job))
        left = db.execute("select from public.image_operations where status in ('pending', 'processing')").fetchall()
        if not left:
            return


def deadlocks(db: Connection) -> int:
    db.execute("select pg_stat_clear_snapshot()")
    (row,) = db.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchall()
    return int(row["deadlocks"])


def test_ten_thousand_calls_at_once_lose_nothing_and_deadlock_nobody(
    people: People, db: Connection, db_url: str
) -> None:
    users = [people.new(credits=100) for _ in range(5)]
    world = World(users, {user.id: [people.image(user, f"{n}.png") for n in range(2)] for user in users})
    before, over = deadlocks(db), threading.Event()

    def call(number: int, _: Connection) -> None:
        Caller(number, world, people, db_url).run()

    killer = threading.Thread(target=kill_sessions, args=(world, db, over))
    killer.start()
    try:
        started = time.monotonic()
        together(db_url, [partial(call, number) for number in range(CONNECTIONS)])
    finally:
        over.set()
        killer.join()
    seconds = time.monotonic() - started
    finish(people, db)

    print(f"\n{sum(world.outcomes.values())} calls in {seconds:.0f} s: {dict(world.outcomes.most_common())}")
    assert sum(world.outcomes.values()) >= 10_000
    assert world.outcomes["killed"] >= 10
    assert deadlocks(db) == before
    assert people.service.rows("verify_ledger") == []
    assert_operations_add_up(world, people, db)

    # What was confirmed is there, once.
    keys = db.execute(
        "select idempotency_key as key, count(*) from public.credit_transactions where idempotency_key = any(%s)"
        " group by 1",
        (world.keys,),
    ).fetchall()
    assert {row["key"]: row["count"] for row in keys} == dict.fromkeys(world.keys, 1)


def assert_operations_add_up(world: World, people: People, db: Connection) -> None:
    """Each operation has one ending, one charge and at most one refund, which it has unless it was completed."""
    rows = db.execute(
        """
        select
            o.id, o.status, o.credits_used, o.credits_refunded, i.processing_status as shown,
            array(
                select t.transaction_type || ' ' || t.amount
                from public.credit_transactions as t
                where t.user_id = o.user_id and t.idempotency_key like 'operation:' || o.id || ':%%'
                order by t.seq
            ) as entries,
            (select count(*) from public.api_usage_logs as l where l.operation_id = o.id) as logs
        from public.image_operations as o
        inner join public.images as i on i.id = o.image_id
        where o.user_id = any(%s)
        """,
        ([user.id for user in world.users],),
    ).fetchall()
    by_id = {row["id"]: row for row in rows}
    assert set(world.operations) <= set(by_id)
    assert {by_id[operation]["status"] for operation in world.completed} <= {"completed"}
    for row in rows:
        charge = [f"usage {row['credits_used']}"]
        is_completed = row["status"] == "completed"
        assert row["status"] in ("completed", "failed", "cancelled")
        assert row["shown"] in ("completed", "failed")
        assert row["entries"] == (charge if is_completed else [*charge, f"refund {row['credits_used']}"]), row
        assert row["credits_refunded"] == (0 if is_completed else row["credits_used"])
        assert row["logs"] == (1 if is_completed else 0)
    assert len({row["status"] for row in rows}) == 3, "a run without cancellations, failures or completions"
