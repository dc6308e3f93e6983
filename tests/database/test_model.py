"""Random histories of credits and operations beside a simple model: after each step both agree."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.database.ledger_model import NEVER, Account, Clawback, Usage
from tests.database.personas import Connection, People, Person, Row

# Some have passed after one jump of the clock, some after two; never exactly when it lands.
EXPIRIES = st.sampled_from([1, 5, 9, NEVER])
JUMP = 4
SOON = timedelta(days=2)
PRICES = {"upscale": 1, "background_removal": 1, "vectorize": 2}
MOST_ATTEMPTS = 3
MOST_STOPPED = 20


@dataclass
class Job:
    """What the model knows of one operation."""

    user: Person
    kind: str
    usage: Usage
    status: str = "pending"
    attempts: int = 0
    lease: Row | None = None


class History(RuleBasedStateMachine):
    """Two users, one worker, and a clock that jumps when told to."""

    people: People
    db: Connection

    @initialize()
    def sign_up(self) -> None:
        self.db.execute("delete from public.image_operations where status in ('pending', 'processing')")
        self.people.service.rows("expire_credits", p_now="infinity", p_limit=10000)
        self.start = datetime.now(UTC)
        self.users = [self.people.new(), self.people.new()]
        self.images = {user.id: self.people.image(user) for user in self.users}
        self.accounts = {user.id: Account() for user in self.users}
        self.jobs: dict[UUID, Job] = {}
        self.usages: list[tuple[Person, UUID, Usage]] = []
        self.clawbacks: list[tuple[Person, UUID, Clawback]] = []
        self.keys: dict[tuple[Any, str], tuple[tuple[Any, ...], Any]] = {}
        self._fall_into_debt(1)

    def _fall_into_debt(self, who: int) -> None:
        """A start that chance seldom finds: two debts, and a usage of two grants to be refunded."""
        self.move_credits(who, 2, "usage", None)
        self.grant_credits(who, 2, 5, 0, None)
        self.grant_credits(who, 2, NEVER, 0, None)
        self.move_credits(who, 4, "usage", None)
        self._claw_back(who, 0, 1)
        self._claw_back(who, 1, None)

    def _refusal(self, person: Person, function: str, **arguments: Any) -> tuple[Any, str | None]:
        try:
            return person.call(function, **arguments), None
        except psycopg.Error as error:
            return None, error.diag.sqlstate

    def _pick(self, data: st.DataObject, *statuses: str) -> tuple[UUID, Job]:
        found = [(key, job) for key, job in self.jobs.items() if job.status in statuses]
        return data.draw(st.sampled_from(found))

    def _has(self, *statuses: str) -> bool:
        return any(job.status in statuses for job in getattr(self, "jobs", {}).values())

    def _end(self, job: Job, status: str) -> None:
        job.status, job.lease = status, None
        if status != "completed":
            self.accounts[job.user.id].refund(job.usage)

    def _spent(self, user: Person, amount: int) -> Usage:
        """A debit that the database has made: the model makes it too."""
        usage = self.accounts[user.id].spend(amount)
        self.usages.append((user, self.people.ledger(user)[-1]["id"], usage))
        return usage

    def _expected(self, user: Person, key: str | None, request: tuple[Any, ...]) -> tuple[Any, str | None] | None:
        """The answer to a repeated key, null for a new one."""
        if key is None or (user.id, key) not in self.keys:
            return None
        first, answer = self.keys[user.id, key]
        return (answer, None) if first == request else (None, "PT409")

    @rule(
        who=st.integers(0, 1),
        amount=st.integers(1, 5),
        kind=st.sampled_from(["purchase", "bonus", "usage", "expiration"]),
        key=st.none() | st.sampled_from(["a", "b"]),
    )
    def move_credits(self, who: int, amount: int, kind: str, key: str | None) -> None:
        user = self.users[who]
        account = self.accounts[user.id]
        adds = kind in ("purchase", "bonus")
        request = {"p_user_id": user.id, "p_amount": amount, "p_transaction_type": kind, "p_idempotency_key": key}
        function = "add_user_credits" if adds else "deduct_user_credits"
        outcome = self._refusal(self.people.service, function, **request)
        expected = self._expected(user, key, (kind, amount, NEVER, 0))
        if expected is not None:
            assert outcome == expected
        elif not adds and amount > account.spendable():
            assert outcome == (None, "PT402")
        else:
            if adds:
                account.credit(amount)
            elif kind == "usage":
                self._spent(user, amount)
            else:
                account.drop(amount)
            assert outcome == (account.balance, None)
            if key:
                self.keys[user.id, key] = ((kind, amount, NEVER, 0), account.balance)

    @rule(
        who=st.integers(0, 1),
        amount=st.integers(1, 8),
        expires=EXPIRIES,
        priority=st.integers(-1, 1),
        key=st.none() | st.sampled_from(["c", "d"]),
    )
    def grant_credits(self, who: int, amount: int, expires: int, priority: int, key: str | None) -> None:
        user = self.users[who]
        row, refusal = self._refusal(
            self.people.service,
            "grant_credits",
            p_user_id=user.id,
            p_amount=amount,
            p_transaction_type="purchase",
            p_expires_at=None if expires == NEVER else self.start + timedelta(days=expires),
            p_priority=priority,
            p_idempotency_key=key,
        )
        request = ("purchase", amount, expires, priority)
        expected = self._expected(user, key, request)
        if expected is not None:
            assert (row and row["id"], refusal) == expected
        else:
            self.accounts[user.id].credit(amount, expires, priority)
            if key:
                self.keys[user.id, key] = (request, row["id"])

    @rule()
    def time_passes(self) -> None:
        """The database's clock cannot be moved; what expires can."""
        self.db.execute(
            "update public.credit_grants set expires_at = expires_at - make_interval(days => %s)"
            " where user_id = any(%s)",
            (JUMP, [user.id for user in self.users]),
        )
        for account in self.accounts.values():
            for grant in account.grants:
                if grant.expires != NEVER:
                    grant.expires -= JUMP

    @rule(is_ahead=st.booleans())
    def expire(self, is_ahead: bool) -> None:
        moment = {"p_now": self.start + SOON} if is_ahead else {}
        rows = self.people.service.rows("expire_credits", **moment)
        gone = {user: account.expire(SOON.days if is_ahead else 0) for user, account in self.accounts.items()}
        assert {row["user_id"]: row["credits"] for row in rows} == {user: n for user, n in gone.items() if n}

    @precondition(lambda self: bool(getattr(self, "usages", [])))
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        user, key, usage = data.draw(st.sampled_from(self.usages))
        row, refusal = self._refusal(self.people.service, "refund_transaction", p_transaction_id=key)
        assert refusal == ("PT409" if usage.is_refunded else None)
        if refusal is None:
            assert row["amount"] == sum(part.amount for part in usage.parts)
        self.accounts[user.id].refund(usage)

    @rule(who=st.integers(0, 1), data=st.data(), amount=st.none() | st.integers(1, 5))
    def claw_back(self, who: int, data: st.DataObject, amount: int | None) -> None:
        account = self.accounts[self.users[who].id]
        self._claw_back(who, data.draw(st.integers(0, len(account.grants) - 1)), amount)

    def _claw_back(self, who: int, place: int, amount: int | None) -> None:
        user = self.users[who]
        account = self.accounts[user.id]
        grant, key = account.grants[place], self._grants(user)[place]["id"]
        row, refusal = self._refusal(
            self.people.service, "clawback_credits", p_grant_id=key, p_amount=amount, p_reason="x"
        )
        open_amount = account.open_amount(grant)
        if open_amount < (amount or 1):
            assert refusal == "PT409"
        else:
            made = account.claw_back(grant, amount or open_amount)
            assert (row["amount"], row["owed"], row["expired"]) == (made.amount, made.owed, made.expired)
            self.clawbacks.append((user, row["id"], made))

    @precondition(lambda self: bool(getattr(self, "clawbacks", [])))
    @rule(data=st.data())
    def reverse_clawback(self, data: st.DataObject) -> None:
        user, key, made = data.draw(st.sampled_from(self.clawbacks))
        _, refusal = self._refusal(self.people.service, "reverse_clawback", p_clawback_id=key, p_reason="x")
        assert refusal == ("PT409" if made.is_reversed else None)
        if refusal is None:
            self.accounts[user.id].reverse(made)

    @rule(who=st.integers(0, 1), kind=st.sampled_from(list(PRICES)))
    def request(self, who: int, kind: str) -> None:
        user = self.users[who]
        row, refusal = self._refusal(
            user, "request_image_operation", p_image_id=self.images[user.id], p_operation_type=kind
        )
        if PRICES[kind] > self.accounts[user.id].spendable():
            assert refusal == "PT402"
        else:
            self.jobs[row["id"]] = Job(user, kind, self._spent(user, PRICES[kind]))

    @precondition(lambda self: bool(getattr(self, "jobs", {})))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key, job = self._pick(data, "pending", "processing", "completed", "failed", "cancelled")
        _, refusal = self._refusal(job.user, "cancel_image_operation", p_operation_id=key)
        stopped = sum(1 for j in self.jobs.values() if j.user is job.user and j.status == "cancelled" and j.attempts)
        if job.status in ("pending", "processing") and job.attempts and stopped == MOST_STOPPED:
            assert refusal == "PT429"
        elif job.status in ("pending", "processing"):
            assert refusal is None
            self._end(job, "cancelled")
        else:
            assert refusal == "PT409"

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        self.db.execute("update public.image_operations set run_after = now() where status = 'pending'")
        claimed = self.people.service.rows("claim_image_operations", p_worker_id="w", p_limit=limit)
        waiting = sum(1 for job in self.jobs.values() if job.status == "pending")
        assert len(claimed) == min(limit, waiting)
        for row in claimed:
            job = self.jobs[row["id"]]
            assert job.status == "pending"
            job.status, job.attempts, job.lease = "processing", job.attempts + 1, row
            assert row["attempts"] == job.attempts

    @precondition(lambda self: self._has("processing"))
    @rule(data=st.data(), how=st.sampled_from(["complete", "retry", "fail", "release", "wrong token"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        key, job = self._pick(data, "processing")
        assert job.lease is not None
        folder = f"results/{job.user.id}/{key}"
        token = key if how == "wrong token" else job.lease["lease_token"]
        lease = {"p_operation_id": key, "p_lease_token": token}
        service = self.people.service
        if how in ("complete", "wrong token"):
            output = {"url": f"{folder}/a.png", "thumbnail_url": f"{folder}/a.webp"}
            result = {"p_api_provider": "waifu2x", "p_output": output, "p_processing_time": Decimal(1)}
            _, refusal = self._refusal(service, "complete_image_operation", **lease, **result)
        elif how == "release":
            _, refusal = self._refusal(service, "release_image_operation", **lease)
        else:
            failure = {"p_error_message": "x", "p_retryable": how == "retry"}
            _, refusal = self._refusal(service, "fail_image_operation", **lease, **failure)

        if how == "wrong token":
            assert refusal == "PT409"
            return
        assert refusal is None
        if how == "complete":
            self._end(job, "completed")
        elif how == "release":
            job.status, job.attempts, job.lease = "pending", job.attempts - 1, None
        elif how == "retry" and job.attempts < MOST_ATTEMPTS:
            job.status, job.lease = "pending", None
        else:
            self._end(job, "failed")

    @precondition(lambda self: self._has("processing"))
    @rule()
    def workers_die(self) -> None:
        # One after the other: were they equal, chance would decide which goes back into the queue first.
        self.db.execute(
            "update public.image_operations set lease_expires_at = created_at - interval '1 hour'"
            " where status = 'processing'"
        )
        lost = [job for job in self.jobs.values() if job.status == "processing"]
        assert self.people.service.call("requeue_lost_image_operations") == len(lost)
        for job in lost:
            if job.attempts < MOST_ATTEMPTS:
                job.status, job.lease = "pending", None
            else:
                self._end(job, "failed")

    def _grants(self, user: Person) -> list[Row]:
        statement = "select id, remaining from public.credit_grants where user_id = %s order by seq"
        return self.db.execute(statement, (user.id,)).fetchall()

    def _agrees(self, user: Person, account: Account) -> None:
        statement = "select credits_remaining, credit_debt from public.profiles where id = %s"
        (profile,) = self.db.execute(statement, (user.id,)).fetchall()
        assert (profile["credits_remaining"], profile["credit_debt"]) == (account.balance, account.debt)
        assert [row["remaining"] for row in self._grants(user)] == [grant.remaining for grant in account.grants]
        clawbacks = self.db.execute(
            "select owed, reversed_at is not null as is_reversed from public.credit_clawbacks"
            " where user_id = %s order by created_at",
            (user.id,),
        ).fetchall()
        assert [(row["owed"], row["is_reversed"]) for row in clawbacks] == [
            (clawback.owed, clawback.is_reversed) for clawback in account.clawbacks
        ]

    @invariant()
    def database_and_model_agree(self) -> None:
        if not hasattr(self, "users"):
            return
        for user in self.users:
            self._agrees(user, self.accounts[user.id])
        rows = self.db.execute(
            "select id, status, attempts from public.image_operations where user_id = any(%s)",
            ([user.id for user in self.users],),
        ).fetchall()
        assert {row["id"]: (row["status"], row["attempts"]) for row in rows} == {
            key: (job.status, job.attempts) for key, job in self.jobs.items()
        }
        assert self.people.service.rows("verify_ledger") == []


def test_no_history_of_credits_and_operations_breaks_the_ledger(people: People, db: Connection) -> None:
    # The ledger is verified after each step: without what other tests have left, that takes a moment.
    people.remove()
    History.people, History.db = people, db
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
