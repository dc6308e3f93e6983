"""Helpers of the tests about mail: what waits in the outbox, and what a sender does with it."""

from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from tests.database.personas import Connection, People, Person, Row

# What the claim and the sender add to every mail.
COMMON = {"first_name", "email", "app_url"}


def queue(db: Connection, person: Person, type_: str = "receipt", key: str | None = None, **data: Any) -> UUID | None:
    """Queue a mail, as a trigger does, and return its id."""
    row = db.execute(
        "select private.queue_email(%s, %s, %s, %s) as id", (person.id, type_, key or str(uuid4()), Jsonb(data))
    ).fetchone()
    assert row is not None
    mail: UUID | None = row["id"]
    return mail


def claim(people: People, limit: int = 100, claim_id: UUID | None = None, lease_seconds: int = 60) -> list[Row]:
    """Claim mails as a sender does."""
    return people.service.rows(
        "claim_emails", p_limit=limit, p_claim_id=claim_id or uuid4(), p_lease_seconds=lease_seconds
    )


def settle(people: People, mail: Row, outcome: str, **result: Any) -> int:
    """Settle one claimed mail and return how many of the lease were settled."""
    results = [{"id": str(mail["id"]), "outcome": outcome} | result]
    settled: int = people.service.call("settle_emails", p_lease_token=mail["lease_token"], p_results=results)
    return settled


def mail(db: Connection, mail_id: UUID | None) -> Row:
    """The row of a mail."""
    (row,) = db.execute("select * from public.email_logs where id = %s", (mail_id,)).fetchall()
    return row


def mails_to(db: Connection, person: Person) -> list[Row]:
    """The mails that wait for somebody, the oldest first. Each must have the data that its templates may use."""
    rows = db.execute(
        "select l.*, t.type, y.sample_data from public.email_logs as l"
        " inner join public.email_templates as t on t.id = l.template_id"
        " inner join public.email_types as y on y.name = t.type"
        " where l.user_id = %s and l.status = 'queued' order by l.created_at, t.type",
        (person.id,),
    ).fetchall()
    for row in rows:
        sample = {name: type(value) for name, value in row["sample_data"].items() if name not in COMMON}
        assert {name: type(value) for name, value in row["data"].items()} == sample, row["type"]
    return rows
