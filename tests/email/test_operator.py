"""`dtf email list`, `show`, `retry` and `suppressions`, as an operator runs them against a project."""

import uuid
from typing import Any

import pytest

from local.stack import StackStatus
from tests.database.personas import People, Person
from tests.e2e.test_operator import Operator


@pytest.fixture(scope="module")
def dtf(stack: StackStatus) -> Operator:
    return Operator(stack)


def mail(user: Person, status: str, error: str | None = None, template: str = "receipt") -> str:
    row = user.connection.execute(
        """
        insert into public.email_logs (user_id, recipient, template_id, status, error, next_attempt_at, sent_at)
        select %s, %s, t.id, %s, %s, 'infinity', null from public.email_templates as t where t.name = %s
        returning id
        """,
        (user.id, user.email, status, error, template),
    ).fetchone()
    assert row is not None
    return str(row["id"])


def test_mails_are_found_by_status_type_and_address(dtf: Operator, user: Person) -> None:
    failed = mail(user, "failed", "550 \x1b[2J no such user")
    unknown = mail(user, "unknown", template="welcome")

    def found(*options: str) -> list[str]:
        return [row["id"] for row in dtf.json("email", "list", "--to", str(user.email)[:13].upper(), *options)]

    assert found()[:2] == [unknown, failed]
    assert found("--status", "failed") == [failed]
    assert set(found("--status", "failed", "--status", "unknown")) == {failed, unknown}
    assert found("--status", "failed", "--type", "welcome") == []
    assert found("--type", "receipt") == [failed]
    assert len(found("--limit", "1")) == 1
    assert dtf.json("email", "list", "--to", "%") == [], "% is no wildcard"
    dtf.run("email", "list", "--status", "lost", status=2)
    printed = dtf.run("email", "list", "--to", str(user.email)).stdout
    assert "receipt" in printed
    assert "\x1b[2J" not in printed


def test_a_mail_is_shown_with_its_events(dtf: Operator, people: People, user: Person) -> None:
    sent = mail(user, "sent")
    told: dict[str, Any] = {"sg_event_id": uuid.uuid4().hex, "email_id": sent, "event_type": "delivered"}
    people.service.call("record_email_events", p_events=[told | {"occurred_at": "2026-11-01T10:00:00Z"}])
    shown = dtf.json("email", "show", sent)
    assert (shown["type"], shown["status"], shown["recipient"]) == ("receipt", "delivered", user.email)
    assert [event["event_type"] for event in shown["events"]] == ["delivered"]
    assert "2026-11-01 10:00:00" in dtf.run("email", "show", sent).stdout
    assert "There is no mail" in dtf.run("email", "show", str(uuid.uuid4()), status=1).stderr


@pytest.mark.parametrize("status", ["failed", "unknown", "suppressed"])
def test_a_mail_is_queued_again_and_the_reason_stays(dtf: Operator, user: Person, status: str) -> None:
    stuck = mail(user, status, "because")
    assert "Queued" in dtf.run("email", "retry", stuck, "--reason", "not in SendGrid's log").stderr
    assert dtf.json("email", "show", stuck)["status"] == "queued"
    (logged,) = user.connection.execute(
        "select details ->> 'reason' as reason from public.admin_logs where action = 'retry_email' and target_id = %s",
        (stuck,),
    ).fetchall()
    assert logged["reason"] == "not in SendGrid's log"
    assert "The mail is queued." in dtf.run("email", "retry", stuck, "--reason", "x", status=1).stderr


def test_a_mail_that_arrived_is_not_sent_again(dtf: Operator, user: Person) -> None:
    refusal = dtf.run("email", "retry", mail(user, "delivered"), "--reason", "x", status=1)
    assert "The mail is delivered." in refusal.stderr


def test_after_an_outage_all_that_failed_is_queued_again(dtf: Operator, user: Person) -> None:
    unknown, failed, foreign = mail(user, "unknown"), mail(user, "failed"), mail(user, "failed")
    others = [mail(user, "failed", template="welcome"), mail(user, "suppressed"), mail(user, "sent")]
    here = [unknown, failed, foreign, *others]
    user.connection.execute("update public.email_logs set created_at = '2100-01-01' where id = any (%s)", (here,))
    user.connection.execute("update public.email_logs set recipient = null where id = %s", (foreign,))
    before = mail(user, "failed")
    these = ("--status", "failed", "--status", "unknown", "--since", "2100-01-01", "--type", "receipt")
    assert {found["id"] for found in dtf.json("email", "list", *these)} == {unknown, failed, foreign}

    retry = ("email", "retry", *these, "--reason", "the provider was down")
    asked = dtf.run(*retry, answer="n\n", status=1).stderr
    assert "3 mails again (2 failed receipt, 1 unknown receipt)? Those that are unknown may come twice." in asked
    assert dtf.json("email", "show", failed)["status"] == "failed"
    answer = dtf.json(*retry, "--yes")
    assert (answer["queued"], list(answer["refused"].values())) == (2, [1])
    assert [dtf.json("email", "show", one)["status"] for one in [*here, before]] == [
        "queued", "queued", "failed", "failed", "suppressed", "sent", "failed"
    ]  # fmt: skip
    printed = dtf.run(*retry, "--yes").stderr
    assert "Queued 0 mails again." in printed
    assert "1 not: The mail was not written by this outbox." in printed


@pytest.mark.parametrize("options", [(), ("--status", "failed"), ("--since", "2026-01-01"), ("--status", "sent")])
def test_what_is_queued_again_is_named(dtf: Operator, options: tuple[str, ...]) -> None:
    dtf.run("email", "retry", *options, "--reason", "x", status=2)


def test_addresses_are_suppressed_and_lifted(dtf: Operator, user: Person) -> None:
    address = str(user.email)
    for _ in range(2):
        dtf.run("email", "suppressions", "add", address.upper(), "--reason", "asked on the phone")
    (row,) = dtf.json("email", "suppressions", "list", "--search", address[:13])
    assert (row["email"], row["reason"], row["detail"]) == (address, "manual", "asked on the phone")
    assert "asked on the phone" in dtf.run("email", "suppressions", "list").stdout
    assert "Lifted: manual" in dtf.run("email", "suppressions", "lift", address).stderr
    assert "is not suppressed" in dtf.run("email", "suppressions", "lift", address, status=1).stderr
    assert dtf.json("email", "suppressions", "list", "--search", address) == []


def test_what_is_no_address_is_refused(dtf: Operator) -> None:
    assert dtf.run("email", "suppressions", "add", "x", "--reason", "y", status=1).stderr
