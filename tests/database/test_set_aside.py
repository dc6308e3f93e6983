"""One damaged row stops itself: of whatever goes through many, with the reason told, and done after all once mended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.database import test_campaigns
from tests.database.outbox import claim as claim_mails
from tests.database.outbox import queue as queue_mail
from tests.database.outbox import settle
from tests.database.personas import Connection, People, Person, Row, refused
from tests.database.test_campaigns import Campaigns
from tests.database.test_queue import claim, expire_leases, operation, queue

campaigns = test_campaigns.campaigns

pytestmark = pytest.mark.usefixtures("empty_queue", "empty_outbox")


@pytest.fixture(autouse=True)
def _nothing_left(people: People, db: Connection) -> Iterator[None]:
    # Those that try who may write to every table leave rows in this one.
    db.execute("delete from public.set_aside_rows")
    yield
    db.execute("delete from public.set_aside_rows")
    assert people.service.rows("verify_ledger") == []


def aside(db: Connection) -> list[tuple[str, str, str]]:
    rows = db.execute("select * from public.set_aside_rows order by task, row_id").fetchall()
    return [(row["task"], row["row_id"], row["reason"]) for row in rows]


def retry(people: People, row_id: Any = None) -> list[Row]:
    return people.service.rows("retry_set_aside_rows", **({} if row_id is None else {"p_row_id": str(row_id)}))


@contextmanager
def damage(db: Connection, table: str, condition: str, *values: Any) -> Iterator[None]:
    """Rows of a table for which a condition is true cannot be written."""
    name = sql.Identifier(f"damage_{uuid4().hex}")
    where = sql.SQL(condition).format(*map(sql.Literal, values))
    table_name = sql.SQL("public.") + sql.Identifier(table)
    db.execute(sql.SQL("alter table {} add constraint {} check (not ({})) not valid").format(table_name, name, where))
    try:
        yield
    finally:
        db.execute(sql.SQL("alter table {} drop constraint {}").format(table_name, name))


# Operations.


def rename_charge(admin: Connection, old: str, new: str) -> None:
    """What no trigger keeps from happening: a restore, or a superuser's hand."""
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        admin.execute(
            "update public.credit_transactions set idempotency_key = %s where idempotency_key = %s", (new, old)
        )


def lose_charge(admin: Connection, operation_id: UUID) -> None:
    rename_charge(admin, f"operation:{operation_id}:charge", f"lost:{operation_id}")


def find_charge(admin: Connection, operation_id: UUID) -> None:
    rename_charge(admin, f"lost:{operation_id}", f"operation:{operation_id}:charge")


def lost(people: People, db: Connection, *, is_last: bool = True) -> tuple[Person, UUID]:
    """An operation whose worker has died, for the last time."""
    user, (operation_id,) = queue(people)
    claim(people.service)
    expire_leases(db)
    if is_last:
        db.execute("update public.image_operations set attempts = max_attempts where id = %s", (operation_id,))
    return user, operation_id


def test_an_operation_whose_refund_cannot_be_booked_stops_only_itself(
    people: People, db: Connection, admin: Connection
) -> None:
    user, damaged = lost(people, db)
    lose_charge(admin, damaged)
    other, lost_too = lost(people, db)
    expire_leases(db)
    _, (waiting,) = queue(people)

    assert [job["id"] for job in claim(people.service)] == [waiting]
    assert operation(db, lost_too)["status"] == "failed"
    assert people.balance(other) == 3, "the one beside it has got its credit back"
    ((task, row_id, reason),) = aside(db)
    assert (task, row_id) == ("requeue_lost_image_operations", str(damaged))
    assert reason == "The charge of the operation is not in the ledger"
    row = operation(db, damaged)
    assert (row["status"], row["credits_refunded"], people.balance(user)) == ("failed", 0, 2)
    assert "could not be given back yet" in row["error_message"]
    (image,) = user.sql("select processing_status, processing_error from public.images")
    assert image == {"processing_status": "failed", "processing_error": row["error_message"]}
    assert people.service.call("requeue_lost_image_operations") == 0

    (left,) = retry(people, damaged)
    assert left["reason"] == reason, "nothing is mended yet"
    find_charge(admin, damaged)
    assert retry(people, damaged) == []
    row = operation(db, damaged)
    assert (row["status"], row["credits_refunded"], people.balance(user)) == ("failed", 1, 3)
    assert (
        "could not"
        not in row["error_message"] + user.sql("select processing_error from public.images")[0]["processing_error"]
    )
    assert aside(db) == []
    with refused("PT404"):
        retry(people, damaged)


def test_an_operation_without_its_charge_is_not_cancelled_and_says_why(
    people: People, db: Connection, admin: Connection
) -> None:
    user, (damaged,) = queue(people)
    lose_charge(admin, damaged)
    with refused("PT409", "charge of the operation is not in the ledger"):
        user.call("cancel_image_operation", p_operation_id=damaged)
    find_charge(admin, damaged)
    user.call("cancel_image_operation", p_operation_id=damaged)
    assert people.balance(user) == 3


@pytest.mark.parametrize("is_last", [True, False])
def test_an_operation_that_cannot_even_be_written_is_passed_over(people: People, db: Connection, is_last: bool) -> None:
    user, damaged = lost(people, db, is_last=is_last)
    _, (waiting,) = queue(people)
    with damage(db, "image_operations", "id = {} and status <> 'processing'", damaged):
        assert [job["id"] for job in claim(people.service)] == [waiting]
        assert claim(people.service) == []
        assert [row_id for _, row_id, _ in aside(db)] == [str(damaged)]
        assert operation(db, damaged)["status"] == "processing"
        assert [row["row_id"] for row in retry(people)] == [str(damaged)]
    assert retry(people) == []
    assert operation(db, damaged)["status"] == ("failed" if is_last else "pending")
    assert people.balance(user) == (3 if is_last else 2)


# An outage.


@contextmanager
def outage(db: Connection, sqlstate: str) -> Iterator[None]:
    """Entries of the ledger and mails cannot be written, for a reason that is not theirs."""
    db.execute(
        sql.SQL(
            "create function public.fail_on_purpose() returns trigger language plpgsql as"
            " $$ begin raise exception 'on purpose' using errcode = {}; end; $$"
        ).format(sqlstate)
    )
    tables = ("credit_transactions", "email_logs", "subscription_history")
    for table in tables:
        db.execute(
            f"create trigger fail_on_purpose before insert or update on public.{table}"
            " for each row execute function public.fail_on_purpose()"
        )
    try:
        yield
    finally:
        for table in tables:
            db.execute(f"drop trigger fail_on_purpose on public.{table}")
        db.execute("drop function public.fail_on_purpose()")


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "53100", "53200", "55P03", "57014", "58030", "25006", "42883"])
def test_an_outage_is_not_a_row_s_fault(people: People, db: Connection, sqlstate: str) -> None:
    user, damaged = lost(people, db)
    expiring = people.new()
    grant(people, expiring, "5 seconds")
    with outage(db, sqlstate):
        for call in (
            lambda: claim(people.service),
            lambda: people.service.rows("expire_credits", p_now=datetime(2100, 1, 1, tzinfo=UTC), p_limit=10000),
            lambda: people.service.call("queue_expiring_credit_emails"),
        ):
            with pytest.raises(psycopg.Error) as error:
                call()
            assert error.value.diag.sqlstate == sqlstate
    assert aside(db) == []
    assert claim(people.service) == []
    assert (operation(db, damaged)["status"], people.balance(user)) == ("failed", 3)


# All the others: what is to be done, how it cannot be for one, and whether it was done.


def grant(people: People, user: Person, lasts: str, amount: int = 10) -> None:
    (row,) = people.connection.execute("select now() + %s::interval as at", (lasts,)).fetchall()
    people.service.call(
        "grant_credits", p_user_id=user.id, p_amount=amount, p_transaction_type="bonus", p_expires_at=row["at"]
    )


class Work:
    """Something that is to be done for two people, and what became of it."""

    task = ""

    def __init__(self, db: Connection, people: People) -> None:
        self.db, self.people = db, people
        self.damaged, self.sound = self.make(people.new()), self.make(people.new())

    def make(self, user: Person) -> Any:
        """What is to be done for somebody; the row by which it is called."""
        raise NotImplementedError

    def damage(self) -> Any:
        raise NotImplementedError

    def run(self) -> None:
        self.people.service.rows(self.task)

    def is_done(self, row: Any) -> bool:
        raise NotImplementedError

    def count(self, statement: str, *values: Any) -> int:
        (row,) = self.db.execute(f"select count(*) as n from public.{statement}", values).fetchall()
        return int(row["n"])


class Expiry(Work):
    task = "expire_credits"

    def make(self, user: Person) -> Any:
        grant(self.people, user, "1 hour")
        self.db.execute("update public.credit_grants set expires_at = now() where user_id = %s", (user.id,))
        return user.id

    def damage(self) -> Any:
        return damage(self.db, "credit_transactions", "user_id = {} and transaction_type = 'expiration'", self.damaged)

    def is_done(self, row: Any) -> bool:
        return self.count("profiles where id = %s and credits_remaining = 0", row) == 1


class Gifts(Work):
    task = "end_comped_subscriptions"

    def make(self, user: Person) -> Any:
        self.people.service.call(
            "admin_comp_subscription", p_user_id=user.id, p_plan="basic", p_months=1, p_reason="press"
        )
        self.db.execute("update public.subscription_history set ended_at = now() where user_id = %s", (user.id,))
        return user.id

    def damage(self) -> Any:
        return damage(self.db, "profiles", "id = {} and subscription_plan = 'free'", self.damaged)

    def is_done(self, row: Any) -> bool:
        return self.count("profiles where id = %s and subscription_plan = 'free'", row) == 1


class Mails(Work):
    """A mail to somebody."""

    def damage(self) -> Any:
        return damage(self.db, "email_logs", "user_id = {}", self.damaged)

    def is_done(self, row: Any) -> bool:
        return self.count("email_logs where user_id = %s and dedupe_key like '%%_expiring:%%'", row) == 1


class CreditReminders(Mails):
    task = "queue_expiring_credit_emails"

    def make(self, user: Person) -> Any:
        grant(self.people, user, "1 day")
        return user.id


class ImageReminders(Mails):
    task = "queue_expiring_image_emails"

    def make(self, user: Person) -> Any:
        image = self.people.image(user)
        self.db.execute("update public.images set expires_at = now() + '1 day'::interval where id = %s", (image,))
        return user.id


class Images(Work):
    task = "delete_expired_images"

    def make(self, user: Person) -> Any:
        image = self.people.image(user)
        self.db.execute("update public.images set expires_at = now() where id = %s", (image,))
        return image

    @contextmanager
    def damage(self) -> Iterator[None]:
        self.db.execute("create table public.holds (image_id uuid references public.images (id))")
        self.db.execute("insert into public.holds values (%s)", (self.damaged,))
        try:
            yield
        finally:
            self.db.execute("drop table public.holds")

    def is_done(self, row: Any) -> bool:
        return self.count("images where id = %s", row) == 0


class Events(Work):
    task = "record_email_events"

    def make(self, user: Person) -> Any:
        queue_mail(self.db, user)
        (mail,) = claim_mails(self.people)
        settle(self.people, mail, "sent", message_id="abc")
        return mail["id"]

    def damage(self) -> Any:
        return damage(self.db, "email_logs", "id = {} and status = 'delivered'", self.damaged)

    def run(self) -> None:
        events = [
            {
                "sg_event_id": f"event of {row}",
                "email_id": str(row),
                "event_type": "delivered",
                "occurred_at": datetime.now(UTC).isoformat(),
            }
            for row in (self.damaged, self.sound)
        ]
        self.people.service.call(self.task, p_events=events)

    def is_done(self, row: Any) -> bool:
        return self.count("email_logs where id = %s and status = 'delivered'", row) == 1


WORKS: list[Callable[[Connection, People], Work]] = [Expiry, Gifts, CreditReminders, ImageReminders, Images, Events]


@pytest.mark.parametrize("kind", WORKS)
def test_a_damaged_row_stops_itself_alone_and_is_done_once_it_is_mended(
    people: People, db: Connection, kind: Callable[[Connection, People], Work]
) -> None:
    work = kind(db, people)
    with work.damage():
        for _ in range(2):
            work.run()
            assert (work.is_done(work.damaged), work.is_done(work.sound)) == (False, True)
            ((task, row_id, reason),) = aside(db)
            assert task == work.task
            assert str(work.damaged) in row_id
            assert "violates" in reason
        assert [row["row_id"] for row in retry(people)] == [row_id]
    assert retry(people, row_id) == []
    assert work.is_done(work.damaged)
    assert aside(db) == []


def test_a_recipient_of_a_campaign_who_cannot_be_written_to_stops_only_himself(
    campaigns: Campaigns, db: Connection
) -> None:
    damaged, sound = campaigns.reader(), campaigns.reader()
    campaign = campaigns.started()
    with damage(db, "email_logs", "user_id = {}", damaged.id):
        campaigns.expand_all()
        assert campaigns.recipients(campaign) == [sound.id]
        assert [(task, row_id) for task, row_id, _ in aside(db)] == [
            ("queue_campaign_emails", f"{campaign}:{damaged.id}")
        ]
    assert retry(campaigns.people) == []
    assert set(campaigns.recipients(campaign)) == {damaged.id, sound.id}


def test_a_campaign_that_cannot_be_read_stops_only_itself(
    campaigns: Campaigns, db: Connection, admin: Connection
) -> None:
    reader = campaigns.reader()
    damaged, sound = campaigns.started(), campaigns.started()
    change = "update public.email_campaigns set target_audience = %s where id = %s"
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        admin.execute(change, (Jsonb({"planet": []}), damaged))
    campaigns.expand_all()
    assert campaigns.recipients(sound) == [reader.id]
    ((task, row_id, reason),) = aside(db)
    assert (task, row_id, "planet" in reason) == ("expand_email_campaigns", str(damaged), True)
    assert campaigns.row(damaged)["status"] == "scheduled"
    db.execute(change, (Jsonb({"plan": [campaigns.plan]}), damaged))
    assert retry(campaigns.people) == []
    campaigns.expand_all()
    assert campaigns.recipients(damaged) == [reader.id]


# Who sees it.


def test_admins_see_what_was_set_aside_and_it_goes_with_its_account(
    people: People, db: Connection, admin: Connection
) -> None:
    user, damaged = lost(people, db)
    lose_charge(admin, damaged)
    claim(people.service)
    everything = "select row_id from public.set_aside_rows"
    assert user.sql(everything) == []
    assert people.new(is_admin=True).sql(everything) == [{"row_id": str(damaged)}]
    assert people.service.call("count_set_aside_rows") == 1
    db.execute("delete from auth.users where id = %s", (user.id,))
    assert aside(db) == []
    for person in (people.anon, people.new(), people.new(is_admin=True)):
        with refused("42501"):
            person.call("retry_set_aside_rows")
