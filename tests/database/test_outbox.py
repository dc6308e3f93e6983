"""The outbox: who gets which mail, and the senders' claims and settlements."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.database.outbox import claim, mail, queue, settle
from tests.database.personas import Connection, People, Person, Row, refused, together

pytestmark = pytest.mark.usefixtures("empty_outbox")


# Who gets which mail --------------------------------------------------------------------------------------------------


def decline(people: People, db: Connection, user: Person, how: str) -> None:
    """Give a reason why somebody gets no mail of some kind."""
    if how in ("marketing_emails", "notification_emails"):
        user.sql(f"update public.profiles set {how} = false where id = auth.uid()")
    elif how == "deactivated":
        db.execute("update public.profiles set is_active = false where id = %s", (user.id,))
    elif how == "not confirmed":
        db.execute("update auth.users set email_confirmed_at = null where id = %s", (user.id,))
    elif how == "no address":
        db.execute("update auth.users set email = null where id = %s", (user.id,))
    elif how != "nothing":
        people.connection.execute(
            "insert into public.email_suppressions (email, reason) values (%s, %s)", (user.email.upper(), how)
        )


@pytest.mark.parametrize(
    ("how", "essential", "notification", "marketing"),
    [
        ("nothing", None, None, None),
        ("marketing_emails", None, None, "unsubscribed"),
        ("notification_emails", None, "unsubscribed", None),
        ("bounce", None, "suppressed: bounce", "suppressed: bounce"),
        ("spam_report", None, "suppressed: spam_report", "suppressed: spam_report"),
        ("manual", None, "suppressed: manual", "suppressed: manual"),
        ("deactivated", None, "deactivated", "deactivated"),
        ("not confirmed", None, "not confirmed", "not confirmed"),
        ("no address", "no address", "no address", "no address"),
    ],
)
def test_who_gets_which_category(
    people: People, db: Connection, how: str, essential: str | None, notification: str | None, marketing: str | None
) -> None:
    user = people.new()
    decline(people, db, user, how)
    (row,) = db.execute(
        "select private.email_refusal(p, 'essential') as essential, private.email_refusal(p, 'notification') as"
        " notification, private.email_refusal(p, 'marketing') as marketing from public.profiles as p where p.id = %s",
        (user.id,),
    ).fetchall()
    assert row == {"essential": essential, "notification": notification, "marketing": marketing}
    assert (queue(db, user, "receipt") is None) == (essential is not None)
    assert (queue(db, user, "credits_low") is None) == (notification is not None)


@pytest.mark.parametrize(
    ("address", "is_mailable"),
    [
        ("o'x+a/{y}=~%z!q?@Example-1.test", True),
        ("a@localhost", True),
        (f"{'l' * 64}@{'d' * 63}.test", True),
        ("=?x?b?!!?=@example.test", False),
        ("=?utf-8?q?a=2Ceve=40example.test=2C?=@example.test", False),
        ("grüße@example.test", False),
        ("ada@exämple.test", False),
        ("Ada <ada@example.test>", False),
        ("ada@example.test,eve@example.test", False),
        ("ada(b)@example.test", False),
        ('"a b"@example.test', False),
        ("ada@example.test\n", False),
        ("ada@example..test", False),
        ("ada@-example.test", False),
        ("ada@[127.0.0.1]", False),
        ("ada", False),
        ("@example.test", False),
        ("ada@", False),
        ("", False),
        (f"{'l' * 65}@example.test", False),
        (f"ada@{'d' * 64}.test", False),
        (f"ada@{'d.' * 123}test", True),
        (f"ada@{'d.' * 123}tests", False),
        ("ada@example.invalid", False),
    ],
)
def test_what_cannot_be_an_address_gets_no_mail(
    people: People, db: Connection, address: str, is_mailable: bool
) -> None:
    user = people.new()
    waiting = queue(db, user)
    db.execute("update auth.users set email = %s where id = %s", (address, user.id))
    assert (queue(db, user) is not None) == is_mailable
    assert [row["recipient"] for row in claim(people)] == [address] * 2 * is_mailable
    db.execute("update auth.users set email = %s where id = %s", (user.email, user.id))
    # One that was queued for another address.
    assert mail(db, waiting)["error"] == (None if is_mailable else "no address")


def test_the_same_is_not_queued_twice(people: People, db: Connection) -> None:
    user, key = people.new(), str(uuid4())
    first = queue(db, user, key=key)
    assert (first is None, queue(db, user, key=key)) == (False, None)
    assert queue(db, Person(db, "authenticated", uuid4())) is None, "of nobody"


def test_a_mail_of_an_inactive_template_is_not_queued(people: People, db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("update public.email_templates set is_active = false where name = 'receipt'")
        assert queue(db, people.new()) is None


def test_whoever_stopped_to_want_it_meanwhile_does_not_get_it(people: People, db: Connection) -> None:
    leaver, stayer = people.new(), people.new()
    unwanted, wanted = queue(db, leaver, "credits_low"), queue(db, stayer, "credits_low")
    decline(people, db, leaver, "notification_emails")
    # Of one that is passed over, a claim for one still finds the next.
    assert [row["id"] for row in claim(people, 1)] == [wanted]
    row = mail(db, unwanted)
    assert (row["status"], row["error"], row["sent_at"]) == ("suppressed", "unsubscribed", None)


def test_a_template_that_was_switched_off_holds_its_mails_back(people: People, db: Connection) -> None:
    waiting = queue(db, people.new())
    with db.transaction(force_rollback=True):
        db.execute("update public.email_templates set is_active = false where name = 'receipt'")
        assert claim(people) == []
        db.execute("reset role")
        assert mail(db, waiting)["error"] == "template inactive"


def test_a_crowd_of_mails_that_nobody_gets_holds_no_other_up_for_long(people: People, db: Connection) -> None:
    user = people.new()
    db.execute(
        "insert into public.email_logs (user_id, template_id, recipient, status, sent_at, next_attempt_at)"
        " select %s, t.id, 'x', 'queued', null, now() - interval '1 h' from public.email_templates as t,"
        " generate_series(1, 12000) where t.name = 'credits_low'",
        (user.id,),
    )
    wanted = queue(db, user, "receipt")
    decline(people, db, user, "notification_emails")
    claims = [[row["id"] for row in claim(people, limit=5)] for _ in range(2)]
    assert claims == [[], [wanted]], "each claim sets some aside, and none all of them"
    db.execute("delete from public.email_logs where user_id = %s", (user.id,))


def test_a_mail_goes_to_the_address_that_the_account_has_at_the_claim(people: People, db: Connection) -> None:
    user = people.new()
    queue(db, user)
    address = f"{uuid4()}@example.test"
    db.execute("update auth.users set email = %s where id = %s", (address, user.id))
    (row,) = claim(people)
    assert (row["recipient"], row["data"]["email"]) == (address, address)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, ""), ("Ada", "Ada"), ("Dr. Ada", "Dr. Ada"), ("Łukasz", "Łukasz"), ("a" * 41, ""), ("a\nb", ""),
        ("see http://x.test", ""), ("x.test", ""), ("<b>", ""), ("me@x", ""),
        ("x。test", ""), ("x\uff0etest", ""), ("a\u2028b", ""), ("a\u202eb", ""), ("Ada ❤", "Ada ❤"),
        ("=?utf-8?q?x=2Etest?=", ""),
    ],
)  # fmt: skip
def test_a_first_name_carries_no_link_into_a_mail(people: People, db: Connection, name: str | None, said: str) -> None:
    user = people.new()
    user.sql("update public.profiles set first_name = %s where id = auth.uid()", name)
    queue(db, user)
    assert claim(people)[0]["data"]["first_name"] == said


VERIFIED = {"email_verified": True}


@pytest.mark.parametrize(
    ("sent", "provider", "claims", "said"),
    [
        (True, "email", {}, "Ada"),
        # With confirmations off Auth sends no link, and calls the address confirmed.
        (False, "email", {}, ""),
        # Without a link it does so, too, where an account changes to an address: who read the old one may say yes.
        (False, "email", VERIFIED, ""),
        (False, "google", VERIFIED, "Ada"),
        (False, "google", {"email_verified": False}, ""),
        (False, "google", {"email_verified": "maybe"}, ""),
        (False, "google", VERIFIED | {"email": "other@example.test"}, ""),
    ],
)
def test_a_name_goes_to_an_address_only_after_somebody_there_has_confirmed_it(
    people: People, db: Connection, sent: bool, provider: str, claims: dict[str, Any], said: str
) -> None:
    user = people.new()
    db.execute("update auth.users set confirmation_sent_at = null where id = %s and not %s", (user.id, sent))
    db.execute(
        "insert into auth.identities (id, user_id, provider, provider_id, identity_data) values (%s, %s, %s, %s, %s)",
        (uuid4(), user.id, provider, str(user.id), Jsonb({"email": user.email, "sub": str(user.id)} | claims)),
    )
    user.sql("update public.profiles set first_name = 'Ada' where id = auth.uid()")
    queue(db, user)
    assert claim(people)[0]["data"]["first_name"] == said


def test_what_a_mail_says_itself_wins_over_what_all_mails_have(people: People, db: Connection) -> None:
    queue(db, people.new(), "receipt", first_name="Grace", amount="$1")
    data = claim(people)[0]["data"]
    assert (data["first_name"], data["amount"]) == ("Grace", "$1")


# Claims ---------------------------------------------------------------------------------------------------------------


def test_a_claim_brings_the_template_with_its_data_and_counts_nothing_yet(people: People, db: Connection) -> None:
    user, number = people.new(), uuid4()
    waiting = queue(db, user, amount="$1")
    (row,) = claim(people, claim_id=number)
    (template,) = db.execute("select * from public.email_templates where name = 'receipt'").fetchall()
    for column in ("subject", "html_content", "text_content", "sendgrid_template_id"):
        assert row[column] == template[column]
    assert (row["id"], row["user_id"], row["lease_token"], row["attempts"]) == (waiting, user.id, number, 0)
    assert (row["type"], row["category"], row["campaign_id"]) == ("receipt", "essential", None)
    assert mail(db, waiting)["status"] == "sending"
    assert claim(people) == []


def test_a_repeated_claim_brings_the_same_mails(people: People, db: Connection) -> None:
    users = [people.new() for _ in range(3)]
    for user in users:
        queue(db, user)
    number = uuid4()
    first = claim(people, 2, number)
    again = claim(people, 2, number, lease_seconds=600)
    assert [row["id"] for row in again] == [row["id"] for row in first]
    assert again[0]["lease_expires_at"] > first[0]["lease_expires_at"] + timedelta(minutes=5)
    assert len(claim(people)) == 1


def test_the_oldest_go_first_and_what_is_not_due_waits(people: People, db: Connection) -> None:
    user = people.new()
    ages = {queue(db, user): age for age in (1, 3, -1, 2)}
    for waiting, age in ages.items():
        db.execute(
            "update public.email_logs set next_attempt_at = now() - make_interval(hours => %s) where id = %s",
            (age, waiting),
        )
    assert [ages[row["id"]] for row in claim(people)] == [3, 2, 1]


def test_senders_at_the_same_moment_share_the_mails(people: People, db: Connection, db_url: str) -> None:
    user = people.new()
    waiting = {queue(db, user) for _ in range(120)}

    def send(connection: Connection) -> list[UUID]:
        found: list[UUID] = []
        while rows := people.service.on(connection).rows("claim_emails", p_limit=7, p_claim_id=uuid4()):
            found += [row["id"] for row in rows]
        return found

    claimed = [row for part in together(db_url, [send] * 4) for row in part]
    # One that finds the last ones locked stops early; they are its neighbour's.
    assert len(claimed) == len(set(claimed))
    assert set(claimed) == waiting


@pytest.mark.parametrize("limit", [None, 0, 101])
def test_a_claim_has_a_limit(people: People, limit: int | None) -> None:
    with refused("PT400", "limit"):
        people.service.rows("claim_emails", p_limit=limit, p_claim_id=uuid4())


@pytest.mark.parametrize("seconds", [None, 0, 3601])
def test_a_lease_has_a_length(people: People, seconds: int | None) -> None:
    with refused("PT400", "lease"):
        people.service.rows("claim_emails", p_limit=1, p_claim_id=uuid4(), p_lease_seconds=seconds)


def test_a_claim_has_an_id(people: People) -> None:
    with refused("PT400", "no id"):
        people.service.rows("claim_emails", p_limit=1, p_claim_id=None)


# Settlements ----------------------------------------------------------------------------------------------------------


def sending(people: People, db: Connection) -> Row:
    """A mail that is being sent."""
    queue(db, people.new())
    (row,) = claim(people)
    return row


def lose(db: Connection, row: Row) -> None:
    db.execute("update public.email_logs set lease_expires_at = now() - interval '1 s' where id = %s", (row["id"],))


def test_a_sent_mail_is_sent_once_however_often_it_is_said(people: People, db: Connection) -> None:
    row = sending(people, db)
    for _ in range(2):
        assert settle(people, row, "sent", message_id="abc") == 1
    found = mail(db, row["id"])
    assert (found["status"], found["sendgrid_message_id"], found["attempts"]) == ("sent", "abc", 1)
    assert (found["error"], found["lease_expires_at"]) == (None, None)
    assert abs(found["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_a_mail_that_failed_or_is_unknown_is_not_sent_again_by_itself(
    people: People, db: Connection, outcome: str
) -> None:
    row = sending(people, db)
    assert settle(people, row, outcome, error="400 no") == 1
    found = mail(db, row["id"])
    assert (found["status"], found["error"], found["sent_at"], found["attempts"]) == (outcome, "400 no", None, 1)
    assert claim(people) == []


def test_retries_wait_longer_and_longer_and_end(people: People, db: Connection) -> None:
    queue(db, people.new())
    waits = []
    for attempt in range(8):
        (row,) = claim(people)
        assert row["attempts"] == attempt
        settle(people, row, "retry", error="503")
        found = mail(db, row["id"])
        waits.append((found["next_attempt_at"] - datetime.now(UTC)).total_seconds())
        assert found["status"] == ("failed" if attempt == 7 else "queued")
        assert claim(people) == []
        db.execute("update public.email_logs set next_attempt_at = now() where id = %s", (row["id"],))
    for wait, longest in zip(waits, (60, 180, 540, 1620, 4860, 14580, 43200), strict=False):
        assert longest / 2 - 5 < wait <= longest


def test_a_provider_may_ask_for_a_longer_wait(people: People, db: Connection) -> None:
    row = sending(people, db)
    settle(people, row, "retry", retry_seconds=5000)
    wait = (mail(db, row["id"])["next_attempt_at"] - datetime.now(UTC)).total_seconds()
    assert 4990 < wait <= 5000


def test_trouble_that_is_not_the_mails_does_not_count(people: People, db: Connection) -> None:
    queue(db, people.new())
    for _ in range(10):
        (row,) = claim(people)
        settle(people, row, "retry", error="429", is_counted=False)
    assert (row["attempts"], mail(db, row["id"])["status"]) == (0, "queued")
    assert settle(people, row, "retry", retry_seconds=60) == 1
    assert len(claim(people)) == 1, "a repeated settlement changes nothing"


def test_an_address_that_takes_no_mail_is_suppressed_as_after_a_bounce(people: People, db: Connection) -> None:
    gone, refused_once, stranger = people.new(), people.new(), people.new()
    for user in (gone, refused_once, stranger):
        queue(db, user)
    rows = {row["user_id"]: row for row in claim(people)}
    for _ in range(2):
        settle(people, rows[gone.id], "failed", error="550 5.1.1 unknown", is_bounce=True)
    settle(people, rows[refused_once.id], "failed", error="550 5.2.1 disabled")
    settle(people, rows[stranger.id] | {"lease_token": uuid4()}, "failed", error="550 5.1.1", is_bounce=True)
    found = db.execute(
        "select email, user_id, reason, detail from public.email_suppressions where email = any(%s)",
        ([gone.email, refused_once.email, stranger.email],),
    ).fetchall()
    assert found == [{"email": gone.email, "user_id": gone.id, "reason": "bounce", "detail": "550 5.1.1 unknown"}]
    assert (queue(db, gone, "credits_low"), queue(db, gone, "receipt") is None) == (None, False)


def test_a_lease_that_ends_leaves_a_mail_unknown_and_late_news_resolves_it(people: People, db: Connection) -> None:
    for outcome, status in (("sent", "sent"), ("failed", "failed"), ("retry", "queued"), ("unknown", "unknown")):
        row = sending(people, db)
        lose(db, row)
        assert claim(people) == []
        found = mail(db, row["id"])
        assert (found["status"], found["attempts"]) == ("unknown", 1)
        assert "interrupted" in found["error"]
        assert settle(people, row, outcome) == 1
        found = mail(db, row["id"])
        assert (found["status"], found["attempts"]) == (status, 1)


def test_maintenance_finds_what_dead_senders_left(people: People, db: Connection) -> None:
    rows = [sending(people, db) for _ in range(3)]
    for row in rows[:2]:
        lose(db, row)
    assert people.service.call("mark_lost_emails", p_limit=1) == 1
    assert people.service.call("mark_lost_emails") == 1
    assert people.service.call("mark_lost_emails") == 0
    assert [mail(db, row["id"])["status"] for row in rows] == ["unknown", "unknown", "sending"]


def test_a_sender_whose_mail_went_to_another_changes_nothing(people: People, db: Connection) -> None:
    row = sending(people, db)
    settle(people, row, "retry", is_counted=False)
    (taken,) = claim(people)
    for outcome in ("sent", "failed", "retry", "unknown"):
        assert settle(people, row, outcome) == 0
    assert mail(db, row["id"])["status"] == "sending"
    assert settle(people, taken, "sent") == 1


def test_one_settlement_settles_many(people: People, db: Connection) -> None:
    user = people.new()
    for _ in range(4):
        queue(db, user)
    rows = claim(people)
    outcomes = ["sent", "failed", "retry", "unknown"]
    results = [{"id": str(row["id"]), "outcome": outcome} for row, outcome in zip(rows, outcomes, strict=True)]
    results.append({"id": str(uuid4()), "outcome": "sent"})
    token = rows[0]["lease_token"]
    assert people.service.call("settle_emails", p_lease_token=token, p_results=results) == 4
    assert [mail(db, row["id"])["status"] for row in rows] == ["sent", "failed", "queued", "unknown"]


@pytest.mark.parametrize(
    "result",
    [
        {}, {"id": "x", "outcome": "sent"}, {"id": str(uuid4())}, {"id": str(uuid4()), "outcome": "delivered"},
        {"id": str(uuid4()), "outcome": "retry", "retry_seconds": -1},
        {"id": str(uuid4()), "outcome": "retry", "retry_seconds": "soon"},
        {"id": str(uuid4()), "outcome": "retry", "is_counted": "yes"},
        {"id": str(uuid4()), "outcome": "failed", "is_bounce": 1}, [],
    ],
)  # fmt: skip
def test_a_wrong_result_is_refused(people: People, result: Any) -> None:
    with refused("PT400", "result"):
        people.service.call("settle_emails", p_lease_token=uuid4(), p_results=[result])


@pytest.mark.parametrize("results", [None, {}])
def test_results_come_as_an_array_with_a_token(people: People, results: Any) -> None:
    with refused("PT400", "Results"):
        people.service.call("settle_emails", p_lease_token=uuid4(), p_results=results)
    with refused("PT400", "Results"):
        people.service.call("settle_emails", p_lease_token=None, p_results=[])


# What people, admins and operators do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_admins_and_operators_send_a_mail_again_with_a_reason(people: People, db: Connection, outcome: str) -> None:
    for caller in (people.new(is_admin=True), people.service):
        row = sending(people, db)
        settle(people, row, outcome, error="no answer")
        again = caller.call("retry_email", p_email_id=row["id"], p_reason="the customer asks")
        assert (again["status"], again["attempts"], again["error"]) == ("queued", 0, None)
        assert settle(people, row, "sent") == 0, "the lease is over"
        (taken,) = claim(people)
        assert settle(people, taken, "sent") == 1
        (entry,) = db.execute(
            "select * from public.admin_logs where target_id = %s and action = 'retry_email'", (row["id"],)
        ).fetchall()
        assert entry["details"] == {"status": outcome, "error": "no answer", "reason": "the customer asks"}
        assert (entry["actor_id"], entry["target_user_id"]) == (caller.id, row["user_id"])


def test_only_what_was_not_sent_is_sent_again(people: People, db: Connection) -> None:
    row = sending(people, db)
    retry = partial(people.service.call, "retry_email", p_email_id=row["id"])
    with refused("PT409", "sending"):
        retry(p_reason="x")
    settle(people, row, "sent")
    with refused("PT409", "sent"):
        retry(p_reason="x")
    with refused("PT400", "reason"):
        retry(p_reason=" ")
    with refused("PT404", "not found"):
        people.service.call("retry_email", p_email_id=uuid4(), p_reason="x")
    (logged,) = db.execute(
        "insert into public.email_logs (user_id, status) values (%s, 'failed') returning id", (row["user_id"],)
    ).fetchall()
    with refused("PT409", "not written by this outbox"):
        people.service.call("retry_email", p_email_id=logged["id"], p_reason="x")


def test_whoever_does_not_want_a_mail_does_not_get_it_by_a_retry_either(people: People, db: Connection) -> None:
    user = people.new()
    waiting = queue(db, user, "credits_low")
    decline(people, db, user, "notification_emails")
    assert claim(people) == []
    people.service.call("retry_email", p_email_id=waiting, p_reason="x")
    assert claim(people) == []
    user.sql("update public.profiles set notification_emails = true where id = auth.uid()")
    people.service.call("retry_email", p_email_id=waiting, p_reason="x")
    assert [row["id"] for row in claim(people)] == [waiting]


def test_unsubscribing_ends_marketing_and_nothing_else(people: People) -> None:
    user = people.new()
    unsubscribe = partial(people.service.call, "unsubscribe_from_emails")
    assert [unsubscribe(p_user_id=user.id), unsubscribe(p_user_id=user.id), unsubscribe(p_user_id=uuid4())] == [
        True, False, False
    ]  # fmt: skip
    assert user.sql("select marketing_emails, notification_emails from public.profiles where id = auth.uid()") == [
        {"marketing_emails": False, "notification_emails": True}
    ]


def test_admins_suppress_an_address_and_lift_it_and_the_log_tells(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new()
    insert = "insert into public.email_suppressions (email, reason) values (%s, %s) returning *"
    (row,) = admin.sql(insert, f"  {user.email.upper()} ", "manual")
    assert (row["email"], row["user_id"]) == (user.email, user.id)
    with refused("42501"):
        admin.sql(insert, user.email, "bounce")
    with refused("42501"):
        user.sql(insert, user.email, "manual")
    assert user.sql("select * from public.email_suppressions") == []
    admin.sql("delete from public.email_suppressions where id = %s", row["id"])
    log = db.execute(
        "select action, target_user_id from public.admin_logs where actor_id = %s order by created_at", (admin.id,)
    ).fetchall()
    assert [(entry["action"], entry["target_user_id"]) for entry in log] == [("insert", user.id), ("delete", user.id)]


def test_a_user_reads_his_own_mails(people: People, db: Connection) -> None:
    user, other = people.new(), people.new()
    waiting = queue(db, user)
    seen = {row["id"] for row in user.sql("select id from public.email_logs")}
    assert waiting in seen
    assert waiting not in {row["id"] for row in other.sql("select id from public.email_logs")}


def test_a_mail_goes_with_its_account_even_while_it_is_sent(people: People, db: Connection) -> None:
    user = people.new()
    queue(db, user)
    (row,) = claim(people)
    user.call("delete_account")
    assert settle(people, row, "sent") == 0


def test_a_claim_does_not_wait_for_an_account_that_is_being_deleted(
    people: People, db: Connection, db_url: str
) -> None:
    going, staying = people.new(), people.new()
    queue(db, going)
    wanted = queue(db, staying)
    with people.connection.transaction(force_rollback=True):
        db.execute("select from public.profiles where id = %s for update", (going.id,))
        db.execute("delete from public.email_logs where user_id = %s", (going.id,))
        (found,) = together(
            db_url, [lambda c: people.service.on(c).rows("claim_emails", p_limit=9, p_claim_id=uuid4())]
        )
    assert [row["id"] for row in found] == [wanted]


def test_accounts_are_deleted_while_their_mails_are_settled_and_heard_of(
    people: People, db: Connection, db_url: str
) -> None:
    """The cascade would lock mails in another order than everybody else."""
    leavers = [people.new() for _ in range(12)]
    for leaver in leavers * 40:
        queue(db, leaver)
    token = uuid4()
    db.execute(
        "update public.email_logs set status = 'sending', lease_token = %s, lease_expires_at = now() + interval '1 h'"
        " where status = 'queued'",
        (token,),
    )
    mails = [row["id"] for row in db.execute("select id from public.email_logs where lease_token = %s", (token,))]

    def settler(connection: Connection) -> None:
        results = [{"id": str(mail_id), "outcome": "retry"} for mail_id in mails]
        for _ in leavers:
            people.service.on(connection).call("settle_emails", p_lease_token=token, p_results=results)

    def hearer(connection: Connection) -> None:
        for _ in leavers:
            events = [
                {
                    "sg_event_id": str(uuid4()),
                    "email_id": str(mail_id),
                    "event_type": "open",
                    "occurred_at": datetime.now(UTC).isoformat(),
                }
                for mail_id in mails
            ]
            people.service.on(connection).call("record_email_events", p_events=events)

    def leave(connection: Connection) -> None:
        for leaver in leavers:
            leaver.on(connection).call("delete_account")

    together(db_url, [settler, hearer, hearer, leave])
    assert not db.execute("select from public.email_logs where id = any(%s)", (mails,)).fetchall()
