"""SendGrid's deliveries to the running service, and what they do to mails, suppressions and preferences."""

import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.stack import StackStatus
from services.email.events import TYPES
from tests.database.personas import Connection, People, Person, Row
from tests.email.http_service import HttpService
from tests.email.signer import Signer, event

NOW = int(time.time())


@pytest.fixture(scope="module")
def shared_mail(db: Connection, people: People) -> str:
    """The id of a mail that was sent to somebody."""
    (mail,) = Mailbox(db).sent(people.new())
    return mail


class Mailbox:
    """Mails that were handed to SendGrid, and what is known of them now."""

    def __init__(self, db: Connection) -> None:
        self.db = db

    def sent(self, user: Person, status: str = "sent", number: int = 1) -> list[str]:
        rows = self.db.execute(
            """
            insert into public.email_logs (user_id, template_id, recipient, status, sent_at, lease_expires_at)
            select
                %(user)s, (select id from public.email_templates where name = 'welcome'), %(email)s, %(status)s,
                case %(status)s when 'sent' then to_timestamp(%(at)s) end,
                case %(status)s when 'sending' then now() + interval '1 minute' end
            from generate_series(1, %(number)s)
            returning id
            """,
            {"user": user.id, "email": user.email, "status": status, "at": NOW - 3600, "number": number},
        ).fetchall()
        return [str(row["id"]) for row in rows]

    def mail(self, email_id: str) -> Row:
        row = self.db.execute("select * from public.email_logs where id = %s", (email_id,)).fetchone()
        assert row is not None
        return row

    def events(self, *email_ids: str) -> int:
        rows = self.db.execute("select from public.email_events where email_log_id = any(%s)", (list(email_ids),))
        return len(rows.fetchall())

    def suppressions(self, user: Person) -> list[str]:
        found = self.db.execute("select reason from public.email_suppressions where email = %s", (user.email,))
        return [row["reason"] for row in found.fetchall()]

    def wants(self, user: Person) -> tuple[bool, bool]:
        """Whether news, and whether notifications."""
        row = self.db.execute(
            "select marketing_emails, notification_emails from public.profiles where id = %s", (user.id,)
        ).fetchone()
        assert row is not None
        return row["marketing_emails"], row["notification_emails"]


@pytest.fixture
def mailbox(db: Connection) -> Mailbox:
    return Mailbox(db)


def of(email_id: str, kind: str, after: int = 0, **more: Any) -> dict[str, Any]:
    """An event of a mail, some seconds after it was sent."""
    return event(kind, email_id=email_id, timestamp=NOW - 3600 + after, **more)


def at(after: int) -> datetime:
    return datetime.fromtimestamp(NOW - 3600 + after, UTC)


# What events do.


def test_a_mails_way_is_followed(service: HttpService, mailbox: Mailbox, user: Person) -> None:
    (mail,) = mailbox.sent(user)
    answer = service.deliver(of(mail, "processed", 1), of(mail, "delivered", 5))
    assert (answer.status_code, answer.json()["recorded"]) == (200, 2)
    row = mailbox.mail(mail)
    assert (row["status"], row["delivered_at"]) == ("delivered", at(5))
    service.deliver(of(mail, "open", 60))
    service.deliver(of(mail, "click", 70, url="https://app.example.test/"))
    row = mailbox.mail(mail)
    assert (row["status"], row["opened_at"], row["clicked_at"]) == ("clicked", at(60), at(70))


@pytest.mark.parametrize("status", ["unknown", "sending"])
def test_an_event_proves_that_a_mail_was_accepted(
    service: HttpService, mailbox: Mailbox, user: Person, status: str
) -> None:
    (mail,) = mailbox.sent(user, status)
    service.deliver(of(mail, "processed", 1))
    assert mailbox.mail(mail)["status"] == "sent"


def test_a_bounce_switches_all_but_essential_mail_off(service: HttpService, mailbox: Mailbox, user: Person) -> None:
    (mail,) = mailbox.sent(user)
    service.deliver(of(mail, "bounce", type="bounce", reason="550 5.1.1 There is no such user", email=user.email))
    row = mailbox.mail(mail)
    assert (row["status"], row["error"]) == ("bounced", "550 5.1.1 There is no such user")
    assert mailbox.suppressions(user) == ["bounce"]


def test_a_blocked_mail_leaves_its_address_alone(service: HttpService, mailbox: Mailbox, user: Person) -> None:
    (mail,) = mailbox.sent(user)
    service.deliver(of(mail, "bounce", type="blocked", reason="554 Your network is blocked", email=user.email))
    assert mailbox.mail(mail)["status"] == "bounced"
    assert mailbox.suppressions(user) == []


def test_a_complaint_ends_everything_that_is_not_essential(
    service: HttpService, mailbox: Mailbox, user: Person
) -> None:
    (mail,) = mailbox.sent(user)
    service.deliver(of(mail, "spamreport", email=user.email))
    assert mailbox.suppressions(user) == ["spam_report"]
    assert mailbox.wants(user) == (False, False)


@pytest.mark.parametrize("kind", ["unsubscribe", "group_unsubscribe"])
def test_people_unsubscribe_and_come_back_at_sendgrid(
    service: HttpService, mailbox: Mailbox, user: Person, kind: str
) -> None:
    (mail,) = mailbox.sent(user)
    service.deliver(of(mail, kind, 10, asm_group_id=7))
    assert mailbox.wants(user) == (False, True)
    service.deliver(of(mail, "group_resubscribe", 20, asm_group_id=7))
    assert mailbox.wants(user) == (True, True)


def test_any_order_and_46_times_over_ends_in_the_same(service: HttpService, mailbox: Mailbox, people: People) -> None:
    reader, gone = people.new(), people.new()
    read, returned = mailbox.sent(reader), mailbox.sent(gone, "unknown")
    stories = [
        *(of(read[0], kind, after) for kind, after in (("processed", 1), ("deferred", 2), ("delivered", 9))),
        *(of(read[0], "open", after) for after in (30, 60, 90)),
        of(read[0], "click", 61),
        of(returned[0], "processed", 1),
        of(returned[0], "bounce", 5, type="bounce", reason="550 gone", email=gone.email),
    ]
    deliveries = [told for told in stories for _ in range(46)]
    random.Random(7).shuffle(deliveries)  # noqa: S311
    bodies = [deliveries[start : start + 9] for start in range(0, len(deliveries), 9)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda body: service.deliver(*body), bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json().get("recorded", 0) for answer in answers) == len(stories)
    assert mailbox.events(*read, *returned) == len(stories)
    row = mailbox.mail(read[0])
    assert (row["status"], row["delivered_at"], row["opened_at"]) == ("clicked", at(9), at(30))
    assert (mailbox.mail(returned[0])["status"], mailbox.suppressions(gone)) == ("bounced", ["bounce"])


def test_mails_of_others_on_the_same_account_change_nothing(service: HttpService, mailbox: Mailbox) -> None:
    before = mailbox.db.execute("select count(*) from public.email_suppressions").fetchall()
    answer = service.deliver(event("delivered", email="example@test.com"), of(str(uuid.uuid4()), "bounce"))
    assert (answer.status_code, answer.json()) == (200, {"unknown": 2, "recorded": 0, "duplicates": 0, "ignored": 0})
    assert mailbox.db.execute("select count(*) from public.email_suppressions").fetchall() == before


def test_a_strange_entry_does_not_bar_the_others(service: HttpService, mailbox: Mailbox, user: Person) -> None:
    (mail,) = mailbox.sent(user)
    nul = of(mail, "bounce", type="bounce", reason="a\0b\ud800", email=user.email)
    answer = service.deliver(7, of(mail, "open", sg_machine_open=True), {"event": "delivered"}, nul)
    assert answer.json() | {"recorded": 1, "ignored": 3} == answer.json()
    assert mailbox.mail(mail)["error"] == "ab?"


def test_the_largest_delivery_is_recorded(service: HttpService, mailbox: Mailbox, user: Person) -> None:
    mails = mailbox.sent(user, number=1200)
    story = [of(mail, kind) for mail in mails for kind in ("processed", "delivered")]
    body, headers = service.signer.deliver(*story)
    assert len(body) > 768 * 1024
    started = time.monotonic()
    answer = service.http.post("/webhooks/sendgrid", content=body, headers=headers)
    print(f"{len(story)} events, {len(body)} bytes: {time.monotonic() - started:.2f} s")
    assert answer.json()["recorded"] == 2400
    assert {mailbox.mail(mail)["status"] for mail in mails} == {"delivered"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
FIELDS = ("sg_event_id", "event", "timestamp", "email", "reason", "email_id", "type", "sg_machine_open")


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.dictionaries(st.sampled_from(FIELDS), values, max_size=3), min_size=1, max_size=4),
    kinds=st.lists(st.sampled_from(sorted(TYPES)), min_size=4, max_size=4),
)
def test_any_signed_list_is_answered(
    service: HttpService, mailbox: Mailbox, shared_mail: str, changes: list[dict[str, Any]], kinds: list[str]
) -> None:
    events = [of(shared_mail, kind) | change for kind, change in zip(kinds, changes, strict=False)]
    answer = service.deliver(*events)
    assert answer.status_code == 200, (events, answer.text)
    assert sum(answer.json().values()) == len(events)


# Who is heard.


def wrong(service: HttpService, how: str, told: dict[str, Any]) -> httpx.Response:
    body, headers = service.signer.deliver(told)
    match how:
        case "unsigned":
            headers = {}
        case "signed by another":
            body, headers = Signer().deliver(told)
        case "malformed":
            headers = dict.fromkeys(headers, "%%%")
        case "changed":
            body = body.replace(b"delivered", b"bounce")
        case "stale":
            body, headers = service.signer.deliver(told, at=time.time() - 26 * 3600)
        case "no list":
            body = b'{"event": "delivered"}'
            headers = service.signer.sign(body)
        case "no JSON":
            body = b"[" * 100_000
            headers = service.signer.sign(body)
    return service.http.post("/webhooks/sendgrid", content=body, headers=headers)


@pytest.mark.parametrize(
    "how", ["unsigned", "signed by another", "malformed", "changed", "stale", "no list", "no JSON"]
)
def test_what_sendgrid_did_not_sign_now_changes_nothing(
    service: HttpService, mailbox: Mailbox, user: Person, how: str
) -> None:
    (mail,) = mailbox.sent(user)
    answer = wrong(service, how, of(mail, "delivered"))
    assert answer.status_code == 400
    assert answer.json().keys() == {"code", "message", "details", "hint"}
    assert (mailbox.mail(mail)["status"], mailbox.events(mail)) == ("sent", 0)


def test_a_body_that_is_too_large_is_not_read(service: HttpService) -> None:
    answer = service.http.post("/webhooks/sendgrid", content=b"x" * (3 << 20), headers=service.signer.sign(b""))
    assert (answer.status_code, answer.json()["message"]) == (413, "The body is too large")


def test_events_are_posted(service: HttpService) -> None:
    assert service.http.get("/webhooks/sendgrid").status_code == 405


def test_no_events_are_fine_too(service: HttpService) -> None:
    assert service.deliver().status_code == 200


def test_without_a_key_sendgrid_is_told_to_come_back(stack: StackStatus) -> None:
    with HttpService(stack, sendgrid_webhook_public_keys=()) as service:
        answer = service.deliver(event("delivered"))
        assert (answer.status_code, answer.json()["hint"]) == (503, "Set SENDGRID_WEBHOOK_PUBLIC_KEY.")


def test_while_the_database_is_away_sendgrid_is_told_to_come_back(stack: StackStatus) -> None:
    with HttpService(stack, supabase_url="http://127.0.0.1:9") as service:
        assert service.deliver(event("delivered")).status_code == 503


def test_the_figures_are_counted(stack: StackStatus) -> None:
    with HttpService(stack) as service:
        service.deliver(event("delivered"), "strange")
        wrong(service, "unsigned", event("delivered"))
        figures = service.http.get("/metrics").text
    assert 'dtf_email_events_total{outcome="unknown"} 1.0' in figures
    assert 'dtf_email_events_total{outcome="ignored"} 1.0' in figures
    assert "dtf_email_deliveries_refused_total 1.0" in figures
