"""What the provider tells of mails: in any order, any number of times, the outcome is the same."""

import random
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.database.outbox import claim, mail, queue, settle
from tests.database.personas import Connection, People, Person, Row, refused, together

pytestmark = pytest.mark.usefixtures("empty_outbox")

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def sent(people: People, db: Connection, user: Person | None = None) -> UUID:
    """A mail that the provider has accepted."""
    queue(db, user or people.new())
    (row,) = claim(people)
    settle(people, row, "sent", message_id="abc")
    found: UUID = row["id"]
    return found


def event(mail_id: UUID | str | None, event_type: str, minute: float = 0, **more: Any) -> dict[str, Any]:
    """An event of a mail, so many minutes after the start."""
    return {
        "sg_event_id": str(uuid4()),
        "email_id": str(mail_id),
        "event_type": event_type,
        "occurred_at": (START + timedelta(minutes=minute)).isoformat(),
    } | more


def record(people: People, *events: Any) -> tuple[int, int, int]:
    """Record events: how many were recorded, known already, unknown."""
    counts = people.service.call("record_email_events", p_events=list(events))
    return counts["recorded"], counts["duplicates"], counts["unknown"]


def profile(db: Connection, user: Person) -> tuple[bool, bool]:
    """Whether somebody wants marketing and notifications."""
    (row,) = db.execute(
        "select marketing_emails, notification_emails from public.profiles where id = %s", (user.id,)
    ).fetchall()
    return row["marketing_emails"], row["notification_emails"]


def suppressions(db: Connection, email: str) -> list[tuple[str, str | None]]:
    rows = db.execute(
        "select reason, detail from public.email_suppressions where email = %s order by reason", (email.lower(),)
    ).fetchall()
    return [(row["reason"], row["detail"]) for row in rows]


# Statuses -------------------------------------------------------------------------------------------------------------

# What some events come to, in whatever order they are heard of.
STORIES = [
    ("processed", "sent"),
    ("processed deferred", "sent"),
    ("processed deferred delivered", "delivered"),
    ("processed delivered open", "opened"),
    ("processed delivered open click", "clicked"),
    ("processed delivered click", "clicked"),
    ("processed deferred bounce", "bounced"),
    ("processed delivered bounce", "bounced"),
    ("processed blocked", "bounced"),
    ("delivered bounce open", "opened"),
    ("dropped", "failed"),
    ("delivered spamreport", "delivered"),
    ("delivered unsubscribe", "delivered"),
]
TIMES = ("sent_at", "delivered_at", "opened_at", "clicked_at")


@pytest.mark.parametrize(("story", "status"), STORIES)
def test_the_order_of_events_does_not_matter(people: People, db: Connection, story: str, status: str) -> None:
    user, outcomes = people.new(), set()
    for order in permutations(enumerate(story.split(), 1)):
        mail_id = sent(people, db, user)
        for minute, event_type in order:
            assert record(people, event(mail_id, event_type, minute)) == (1, 0, 0)
        found = mail(db, mail_id)
        outcomes.add((found["status"], *(found[column] for column in TIMES)))
    ((found_status, sent_at, *_),) = outcomes
    assert (found_status, sent_at) == (status, START + timedelta(minutes=1))


def test_the_first_time_counts(people: People, db: Connection) -> None:
    mail_id = sent(people, db)
    record(people, event(mail_id, "open", 9), event(mail_id, "open", 5), event(mail_id, "delivered", 3))
    record(people, event(mail_id, "open", 7), event(mail_id, "click", 8), event(mail_id, "click", 6))
    found = mail(db, mail_id)
    assert [found[column] for column in TIMES] == [START + timedelta(minutes=minute) for minute in (3, 3, 5, 6)]


def test_why_a_mail_did_not_arrive_is_kept_until_it_did(people: People, db: Connection) -> None:
    mail_id = sent(people, db)
    record(people, event(mail_id, "bounce", reason="550 no such user"))
    assert mail(db, mail_id)["error"] == "550 no such user"
    record(people, event(mail_id, "processed"))
    assert mail(db, mail_id)["error"] == "550 no such user"
    record(people, event(mail_id, "open"))
    assert (mail(db, mail_id)["status"], mail(db, mail_id)["error"]) == ("opened", None)


@pytest.mark.parametrize("state", ["sending", "unknown", "queued", "failed"])
def test_an_event_proves_that_a_mail_was_accepted(people: People, db: Connection, state: str) -> None:
    queue(db, people.new())
    (row,) = claim(people)
    if state == "unknown":
        settle(people, row, "unknown")
    elif state == "queued":
        settle(people, row, "retry", is_counted=False)
    elif state == "failed":
        settle(people, row, "failed")
    record(people, event(row["id"], "delivered", 1))
    found = mail(db, row["id"])
    assert (found["status"], found["error"], found["lease_expires_at"]) == ("delivered", None, None)
    assert claim(people) == [], "it is not sent again"
    # The sender's own word comes last, or again.
    assert settle(people, row, "sent", message_id="late") == 1
    found = mail(db, row["id"])
    assert (found["status"], found["sendgrid_message_id"]) == ("delivered", "late")
    assert found["sent_at"] == START + timedelta(minutes=1)


@pytest.mark.parametrize("state", ["queued", "sending", "unknown"])
def test_what_is_heard_of_a_dropped_try_says_nothing_of_the_next(people: People, db: Connection, state: str) -> None:
    mail_id = sent(people, db)
    record(people, event(mail_id, "dropped", 2, reason="Bounced Address"))
    people.service.call("retry_email", p_email_id=mail_id, p_reason="the address is right")
    if state != "queued":
        (row,) = claim(people)
        if state == "unknown":
            settle(people, row, "unknown")
    record(people, event(mail_id, "processed", 1), event(mail_id, "deferred", 2))
    assert (mail(db, mail_id)["status"], mail(db, mail_id)["sent_at"]) == (state, None)
    record(people, event(mail_id, "processed", 9))
    assert mail(db, mail_id)["status"] == "sent"


def test_an_event_is_recorded_once_however_often_it_comes(people: People, db: Connection, db_url: str) -> None:
    mail_id = sent(people, db)
    same = event(mail_id, "open", 1)
    assert record(people, *[same] * 46) == (1, 45, 0)
    results = together(db_url, [lambda c: people.service.on(c).call("record_email_events", p_events=[same] * 46)] * 4)
    assert [result["duplicates"] for result in results] == [46] * 4
    (row,) = db.execute("select count(*) from public.email_events where email_log_id = %s", (mail_id,)).fetchall()
    assert row["count"] == 1


def test_events_in_parallel_come_to_the_same(people: People, db: Connection, db_url: str) -> None:
    mails = [sent(people, db) for _ in range(6)]
    chance = random.Random(1)  # noqa: S311
    events = [
        event(one, kind, n) for one in mails for n, kind in enumerate(("processed", "delivered", "open", "bounce"))
    ]

    def deliver(connection: Connection) -> None:
        service = people.service.on(connection)
        mine = events * 3
        for _ in range(4):
            chance.shuffle(mine)
            service.call("record_email_events", p_events=mine)

    together(db_url, [deliver] * 4)
    assert {mail(db, one)["status"] for one in mails} == {"opened"}
    assert {mail(db, one)["opened_at"] for one in mails} == {START + timedelta(minutes=2)}


@pytest.mark.parametrize(
    "change",
    [
        {"email_id": None}, {"email_id": "x"}, {"email_id": str(uuid4())}, {"email_id": 7},
        {"sg_event_id": None}, {"sg_event_id": ""}, {"sg_event_id": "x" * 101},
        {"event_type": "machine_opened"}, {"event_type": None},
        {"occurred_at": None}, {"occurred_at": "1999-01-01T00:00:00Z"}, {"occurred_at": "2999-01-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_what_is_not_about_a_mail_of_ours_changes_nothing(
    people: People, db: Connection, change: dict[str, Any]
) -> None:
    mail_id = sent(people, db)
    assert record(people, event(mail_id, "open") | change, event(mail_id, "delivered")) == (1, 0, 1)
    assert mail(db, mail_id)["status"] == "delivered"


@pytest.mark.parametrize(
    "events", [None, {}, [1], ["x"], [{"occurred_at": "soon"}], [{"occurred_at": "2026-13-01"}], [{}] * 10_001]
)
def test_what_is_no_list_of_events_is_refused(people: People, events: Any) -> None:
    with refused("PT400"):
        people.service.call("record_email_events", p_events=events)


# Suppressions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_type", "reason", "suppression"),
    [
        ("bounce", "550", "bounce"), ("spamreport", None, "spam_report"), ("blocked", "421", None),
        ("deferred", "4.2.0", None), ("delivered", None, None), ("unsubscribe", None, None),
        ("dropped", "Bounced Address", "dropped"), ("dropped", "Spam Reporting Address", "dropped"),
        ("dropped", "Invalid", "dropped"), ("dropped", "Invalid SMTPAPI header", None),
        ("dropped", "Recipient List over Package Quota", None), ("dropped", None, None),
    ],
)  # fmt: skip
def test_what_tells_against_an_address_suppresses_it(
    people: People, db: Connection, event_type: str, reason: str | None, suppression: str | None
) -> None:
    user = people.new()
    record(people, event(sent(people, db, user), event_type, reason=reason, email=user.email.upper()))
    assert suppressions(db, user.email) == ([(suppression, reason)] if suppression else [])
    assert (queue(db, user, "credits_low") is None) == (suppression is not None)
    assert queue(db, user, "receipt") is not None


@pytest.mark.parametrize("email", ["", " ", "x", "x" * 321, None])
def test_what_is_no_address_keeps_no_other_event_from_being_heard(
    people: People, db: Connection, email: str | None
) -> None:
    foreign = db.execute("insert into public.email_logs (status) values ('sent') returning id").fetchone()
    assert foreign is not None
    mail_id = sent(people, db)
    assert record(people, event(foreign["id"], "bounce", email=email), event(mail_id, "delivered")) == (2, 0, 0)
    assert (mail(db, foreign["id"])["status"], mail(db, mail_id)["status"]) == ("bounced", "delivered")
    db.execute("delete from public.email_logs where id = %s", (foreign["id"],))


def test_a_lifted_suppression_does_not_come_back_with_an_old_event(people: People, db: Connection) -> None:
    user = people.new()
    bounce = event(sent(people, db, user), "bounce", reason="550")
    record(people, bounce, bounce | {"sg_event_id": "other" + str(uuid4())})
    assert suppressions(db, user.email) == [("bounce", "550")]
    people.service.sql("delete from public.email_suppressions where email = %s", user.email)
    record(people, bounce)
    assert suppressions(db, user.email) == []


def test_the_address_that_bounced_is_suppressed_and_not_the_one_that_replaced_it(
    people: People, db: Connection
) -> None:
    user = people.new()
    mail_id, new = sent(people, db, user), f"{uuid4()}@example.test"
    db.execute("update auth.users set email = %s where id = %s", (new, user.id))
    record(people, event(mail_id, "bounce", email=user.email))
    assert (suppressions(db, user.email), suppressions(db, new)) == ([("bounce", None)], [])


def test_a_suppression_goes_with_its_account(people: People, db: Connection) -> None:
    user = people.new()
    record(people, event(sent(people, db, user), "bounce"))
    assert user.call("export_account")["email_suppressions"][0]["reason"] == "bounce"
    assert user.call("export_account")["email_events"][0]["event_type"] == "bounce"
    user.call("delete_account")
    assert suppressions(db, user.email) == []


# Preferences ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event_type", "reason", "wants"),
    [
        ("unsubscribe", None, (False, True)), ("group_unsubscribe", None, (False, True)),
        ("spamreport", None, (False, False)), ("dropped", "Unsubscribed Address", (False, True)),
        ("bounce", None, (True, True)), ("open", None, (True, True)),
    ],
)  # fmt: skip
def test_what_people_say_at_the_provider_is_their_preference_here(
    people: People, db: Connection, event_type: str, reason: str | None, wants: tuple[bool, bool]
) -> None:
    user = people.new()
    record(people, event(sent(people, db, user), event_type, reason=reason))
    assert profile(db, user) == wants


def test_the_latest_word_counts_in_whatever_order_it_is_heard(people: People, db: Connection) -> None:
    story = (("group_unsubscribe", 1), ("group_resubscribe", 2), ("unsubscribe", 3))
    for count, wants in ((1, False), (2, True), (3, False)):
        for order in permutations(story[:count]):
            user = people.new()
            for event_type, minute in order:
                record(people, event(sent(people, db, user), event_type, minute))
            assert profile(db, user) == (wants, True), order
            user = people.new()
            record(people, *(event(sent(people, db, user), kind, minute) for kind, minute in order))
            assert profile(db, user) == (wants, True), order


def test_a_complaint_stays_although_somebody_subscribes_again(people: People, db: Connection) -> None:
    for order in permutations((("spamreport", 1), ("group_resubscribe", 2))):
        user = people.new()
        for event_type, minute in order:
            record(people, event(sent(people, db, user), event_type, minute))
        assert profile(db, user) == (True, False)
        assert suppressions(db, user.email) == [("spam_report", None)]


def test_an_old_event_heard_again_does_not_undo_what_somebody_chose(people: People, db: Connection) -> None:
    user = people.new()
    said = event(sent(people, db, user), "unsubscribe")
    record(people, said)
    user.sql("update public.profiles set marketing_emails = true where id = auth.uid()")
    record(people, said)
    assert profile(db, user) == (True, True)


@pytest.mark.parametrize(("chosen", "heard"), [(False, "group_resubscribe"), (True, "unsubscribe")])
def test_what_was_said_at_the_provider_before_does_not_undo_what_somebody_chose(
    people: People, db: Connection, chosen: bool, heard: str
) -> None:
    user = people.new()
    mails = [sent(people, db, user) for _ in range(2)]
    db.execute("update public.profiles set marketing_emails = %s where id = %s", (not chosen, user.id))
    user.sql("update public.profiles set marketing_emails = %s where id = auth.uid()", chosen)
    now = (datetime.now(UTC) - START).total_seconds() / 60
    record(people, event(mails[0], heard, now - 10))
    assert profile(db, user) == (chosen, True)
    record(people, event(mails[1], heard, now + 10))
    assert profile(db, user) == (not chosen, True)


@pytest.mark.parametrize("is_off", [False, True])
def test_unsubscribing_by_the_link_outlasts_an_older_word(people: People, db: Connection, is_off: bool) -> None:
    user = people.new()
    mail_id = sent(people, db, user)
    # Where they were off already, the click is the newest word all the same.
    db.execute(
        "update public.profiles set marketing_emails = %s, marketing_emails_set_at = %s where id = %s",
        (not is_off, START - timedelta(days=1), user.id),
    )
    assert people.service.call("unsubscribe_from_emails", p_user_id=user.id) is not is_off
    record(people, event(mail_id, "group_resubscribe"))
    assert profile(db, user) == (False, True)


# Housekeeping ---------------------------------------------------------------------------------------------------------


def test_old_mails_are_pruned_but_those_that_wait_or_must_not_come_again(people: People, db: Connection) -> None:
    user = people.new()
    before = datetime.now(UTC) - timedelta(days=400)
    with db.transaction(force_rollback=True):
        ended, ongoing, recent = (
            db.execute(
                "insert into public.email_campaigns (name, status, template_id, scheduled_at, started_at, sent_at)"
                " select 'x', %s, t.id, now(), now(), now() - %s::interval from public.email_templates as t"
                " where t.name = 'newsletter' returning id",
                campaign,
            ).fetchall()[0]["id"]
            for campaign in (("completed", "401 days"), ("sending", None), ("completed", "1 day"))
        )
        for key, status, days, campaign in (
            ("sent", "sent", 401, None),
            ("unknown", "unknown", 401, None),
            ("of an ended campaign", "opened", 401, ended),
            ("young", "sent", 399, None),
            ("queued", "queued", 401, None),
            ("of a campaign that goes on", "sent", 401, ongoing),
            ("of a campaign that ended lately", "sent", 401, recent),
            (f"welcome:{uuid4()}", "sent", 401, None),
        ):
            db.execute(
                "insert into public.email_logs"
                " (user_id, template_id, recipient, dedupe_key, status, sent_at, campaign_id, created_at)"
                " select %s, t.id, 'x', %s, %s, null, %s, now() - make_interval(days => %s)"
                " from public.email_templates as t where t.name = 'receipt'",
                (user.id, key, status, campaign, days),
            )
        while people.service.call("prune_logs", p_before=before, p_limit=10_000):
            pass
        db.execute("reset role")
        left = db.execute("select dedupe_key from public.email_logs where recipient = 'x'").fetchall()
    assert sorted(row["dedupe_key"].partition(":")[0] for row in left) == [
        "of a campaign that ended lately", "of a campaign that goes on", "queued", "welcome", "young"
    ]  # fmt: skip


def test_old_events_are_pruned_and_their_mails_stay(people: People, db: Connection) -> None:
    mail_id = sent(people, db)
    record(people, event(mail_id, "open"))
    with db.transaction(force_rollback=True):
        db.execute("update public.email_events set received_at = now() - interval '401 days'")
        before = datetime.now(UTC) - timedelta(days=400)
        while people.service.call("prune_logs", p_before=before, p_limit=10_000):
            pass
        db.execute("reset role")
        left: list[Row] = db.execute("select from public.email_events").fetchall()
        assert (left, mail(db, mail_id)["status"]) == ([], "opened")
