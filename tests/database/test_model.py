"""Random histories of credits and operations beside a simple model: after each step both agree."""

from dataclasses import dataclass
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

from tests.database.personas import Connection, People, Person, Row

PRICES = {"upscale": 1, "background_removal": 1, "vectorize": 2}
MOST_ATTEMPTS = 3


@dataclass
class Job:
    """What the model knows of one operation."""

    user: Person
    kind: str
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
        self.users = [self.people.new(), self.people.new()]
        self.images = {user.id: self.people.image(user) for user in self.users}
        self.balances = {user.id: 2 for user in self.users}
        self.jobs: dict[UUID, Job] = {}
        self.keys: dict[tuple[Any, str], tuple[str, int, int]] = {}

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
            self.balances[job.user.id] += PRICES[job.kind]

    @rule(
        who=st.integers(0, 1),
        amount=st.integers(1, 5),
        kind=st.sampled_from(["purchase", "bonus", "usage", "expiration"]),
        key=st.none() | st.sampled_from(["a", "b"]),
    )
    def move_credits(self, who: int, amount: int, kind: str, key: str | None) -> None:
        user = self.users[who]
        adds = kind in ("purchase", "bonus")
        answer, refusal = self._refusal(
            self.people.service,
            "add_user_credits" if adds else "deduct_user_credits",
            p_user_id=user.id,
            p_amount=amount,
            p_transaction_type=kind,
            p_idempotency_key=key,
        )
        known = self.keys.get((user.id, key)) if key else None
        if known:
            assert (answer, refusal) == ((known[2], None) if known[:2] == (kind, amount) else (None, "PT409"))
        elif not adds and amount > self.balances[user.id]:
            assert refusal == "PT402"
        else:
            self.balances[user.id] += amount if adds else -amount
            assert answer == self.balances[user.id]
            if key:
                self.keys[user.id, key] = (kind, amount, answer)

    @rule(who=st.integers(0, 1), kind=st.sampled_from(list(PRICES)))
    def request(self, who: int, kind: str) -> None:
        user = self.users[who]
        row, refusal = self._refusal(
            user, "request_image_operation", p_image_id=self.images[user.id], p_operation_type=kind
        )
        if PRICES[kind] > self.balances[user.id]:
            assert refusal == "PT402"
        else:
            self.balances[user.id] -= PRICES[kind]
            self.jobs[row["id"]] = Job(user, kind)

    @precondition(lambda self: bool(getattr(self, "jobs", {})))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key, job = self._pick(data, "pending", "processing", "completed", "failed", "cancelled")
        _, refusal = self._refusal(job.user, "cancel_image_operation", p_operation_id=key)
        if job.status in ("pending", "processing"):
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
        self.db.execute(
            "update public.image_operations set lease_expires_at = now() - interval '1 hour'"
            " where status = 'processing'"
        )
        lost = [job for job in self.jobs.values() if job.status == "processing"]
        assert self.people.service.call("requeue_lost_image_operations") == len(lost)
        for job in lost:
            if job.attempts < MOST_ATTEMPTS:
                job.status, job.lease = "pending", None
            else:
                self._end(job, "failed")

    @invariant()
    def database_and_model_agree(self) -> None:
        if not hasattr(self, "users"):
            return
        for user in self.users:
            assert self.people.balance(user) == self.balances[user.id]
        rows = self.db.execute(
            "select id, status, attempts from public.image_operations where user_id = any(%s)",
            ([user.id for user in self.users],),
        ).fetchall()
        assert {row["id"]: (row["status"], row["attempts"]) for row in rows} == {
            key: (job.status, job.attempts) for key, job in self.jobs.items()
        }
        assert self.people.service.rows("verify_ledger") == []


def test_no_history_of_credits_and_operations_breaks_the_ledger(people: People, db: Connection) -> None:
    History.people, History.db = people, db
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
