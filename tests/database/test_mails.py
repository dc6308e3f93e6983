"""The mails that the system writes by itself: when, to whom, and with what data."""

from typing import Any
from uuid import uuid4

import pytest

from tests.database.outbox import mails_to
from tests.database.personas import Connection, People, Person, refused


def told(db: Connection, person: Person) -> list[str]:
    """The types of the mails that wait for somebody."""
    return [row["type"] for row in mails_to(db, person)]


def data(db: Connection, person: Person) -> dict[str, Any]:
    """The data of the one mail that waits for somebody."""
    (row,) = mails_to(db, person)
    found: dict[str, Any] = row["data"]
    return found


def sign_up(db: Connection, *, confirmed: bool, metadata: str = "{}") -> Person:
    user = Person(db, "authenticated", uuid4(), f"{uuid4()}@example.test")
    db.execute(
        "insert into auth.users (id, email, email_confirmed_at, raw_user_meta_data)"
        " values (%s, %s, case when %s then now() end, %s)",
        (user.id, user.email, confirmed, metadata),
    )
    return user


def leave(db: Connection, *persons: Person) -> None:
    db.execute("delete from auth.users where id = any(%s)", ([person.id for person in persons],))


# Welcome --------------------------------------------------------------------------------------------------------------


def test_a_welcome_waits_for_the_address_to_be_confirmed(db: Connection) -> None:
    at_once, later = sign_up(db, confirmed=True), sign_up(db, confirmed=False)
    assert data(db, at_once) == {"credits": "2 credits"}
    assert told(db, later) == []
    for _ in range(2):
        db.execute("update auth.users set email_confirmed_at = now() where id = %s", (later.id,))
    assert told(db, later) == ["welcome"]
    leave(db, at_once, later)


def come_and_go(db: Connection, email: str, *, sent: bool) -> list[str]:
    """Sign up, look at the mails that wait, and leave."""
    user = Person(db, "authenticated", uuid4(), email)
    db.execute(
        "insert into auth.users (id, email, confirmation_sent_at, email_confirmed_at)"
        " values (%s, %s, case when %s then now() end, now())",
        (user.id, email, sent),
    )
    types = told(db, user)
    leave(db, user)
    return types


def test_a_strangers_address_is_welcomed_once_however_often_somebody_signs_up_with_it(db: Connection) -> None:
    email = f"{uuid4()}@example.test"
    assert [come_and_go(db, email, sent=False) for _ in range(10)] == [["welcome"]] + [[]] * 9
    # Whoever follows the link is there himself.
    assert come_and_go(db, email, sent=True) == ["welcome"]


def may_cause_mail(db: Connection, user: Person) -> bool:
    (row,) = db.execute("select private.may_cause_mail(%s) as may", (user.id,)).fetchall()
    may: bool = row["may"]
    return may


def test_an_address_that_nobody_confirmed_gets_few_mails_a_day_whoever_has_it(people: People, db: Connection) -> None:
    db.execute("delete from private.unconfirmed_mails")  # of other tests: each call forgets only some
    email = f"{uuid4()}@example.test"
    causes = []
    for _ in range(4):
        user = Person(db, "authenticated", uuid4(), email)
        db.execute("insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())", (user.id, email))
        causes += [may_cause_mail(db, user) for _ in range(2)]
        leave(db, user)
    # The first one's welcome counts.
    assert causes == [True] * 4 + [False] * 4
    db.execute("update private.unconfirmed_mails set since = now() - interval '25 hours'")
    user = sign_up(db, confirmed=True)
    db.execute("update auth.users set email = %s where id = %s", (email, user.id))
    assert may_cause_mail(db, user)
    (row,) = db.execute(
        "select count(*) from private.unconfirmed_mails where since < now() - interval '1 day'"
    ).fetchall()
    assert row["count"] == 0, "what is over is forgotten"
    db.execute("update auth.users set confirmation_sent_at = now() where id = %s", (user.id,))
    assert [may_cause_mail(db, user) for _ in range(9)] == [True] * 9
    leave(db, user)


def test_an_account_without_an_address_gets_no_mail(db: Connection) -> None:
    user = Person(db, "authenticated", uuid4())
    db.execute("insert into auth.users (id, email, email_confirmed_at) values (%s, null, now())", (user.id,))
    assert told(db, user) == []
    leave(db, user)


@pytest.mark.parametrize(("said", "wants"), [("false", False), ('"false"', False), ("true", True), ("null", True)])
def test_whoever_declines_marketing_at_sign_up_gets_none(db: Connection, said: str, wants: bool) -> None:
    user = sign_up(db, confirmed=True, metadata=f'{{"marketing_emails": {said}}}')
    (profile,) = db.execute(
        "select marketing_emails, notification_emails from public.profiles where id = %s", (user.id,)
    ).fetchall()
    assert profile == {"marketing_emails": wants, "notification_emails": True}
    leave(db, user)


@pytest.mark.parametrize("trouble", ["inactive", "missing"])
def test_a_mail_that_is_switched_off_does_not_keep_anybody_from_signing_up(db: Connection, trouble: str) -> None:
    with db.transaction(force_rollback=True):
        if trouble == "inactive":
            db.execute("update public.email_templates set is_active = false where name = 'welcome'")
        else:
            db.execute("delete from public.email_logs")
            db.execute("delete from public.email_templates where name = 'welcome'")
        user = sign_up(db, confirmed=True)
        assert told(db, user) == []
        assert db.execute("select from public.profiles where id = %s", (user.id,)).fetchall() != []


# Payments -------------------------------------------------------------------------------------------------------------


def order(db: Connection, user: Person, status: str, age: str = "0 days") -> None:
    """An order of a package that comes to its end."""
    (row,) = db.execute(
        "insert into public.billing_orders (user_id, pay_as_you_go_package_id, credits, stripe_price_id, created_at)"
        " select %s, id, credits, 'price_1', now() - %s::interval from public.pay_as_you_go_packages"
        " where credits = 20 returning id",
        (user.id, age),
    ).fetchall()
    db.execute(
        "update public.billing_orders set status = %s, closed_at = now(), amount = 14.99, currency = 'USD'"
        " where id = %s",
        (status, row["id"]),
    )
    # Heard again.
    db.execute("update public.billing_orders set status = status where id = %s", (row["id"],))


def invoice(db: Connection, user: Person, **values: Any) -> None:
    """An invoice, written and written again, as the billing functions do with each event."""
    (plan,) = db.execute("select id from public.subscription_plans where name = 'starter'").fetchall()
    row = {
        "id": f"in_{uuid4()}",
        "user_id": user.id,
        "stripe_subscription_id": f"sub_{user.id}",
        "subscription_plan_id": plan["id"],
        "reason": "subscription_cycle",
        "status": "paid",
        "amount_due": 24.99,
        "amount_paid": 24.99,
        "currency": "EUR",
        "attempts": 1,
        "hosted_url": "https://pay.test/1",
        "period_end": "2026-12-22T12:00:00Z",
        "created_at": "now",
    } | values
    columns = ", ".join(row)
    places = ", ".join(f"%({column})s" for column in row)
    for _ in range(2):
        db.execute(
            f"insert into public.billing_invoices ({columns}) values ({places}) on conflict (id)"
            " do update set status = excluded.status, failed_attempt = excluded.failed_attempt",
            row,
        )


def test_a_paid_package_brings_one_receipt(people: People, db: Connection) -> None:
    user = people.new()
    order(db, user, "paid")
    receipt = data(db, user)
    assert receipt.pop("date")[-4:].isdigit()
    assert receipt == {
        "product": "20 credits", "credits": "20 credits", "amount": "$14.99", "balance": "2 credits", "receipt_url": ""
    }  # fmt: skip


def test_a_package_whose_payment_fails_later_is_told_of(people: People, db: Connection) -> None:
    user = people.new()
    order(db, user, "failed")
    assert told(db, user) == ["payment_failed"]
    assert data(db, user)["is_subscription"] is False


def test_what_is_found_out_long_after_is_not_told(people: People, db: Connection) -> None:
    user = people.new()
    order(db, user, "paid", age="31 days")
    invoice(db, user, created_at="2020-01-01", paid_at="2020-01-01")
    invoice(db, user, created_at="2020-01-01", status="open", failed_attempt=1)
    assert told(db, user) == []


def test_a_renewal_tells_what_was_paid_and_until_when(people: People, db: Connection) -> None:
    user = people.new()
    invoice(db, user)
    assert data(db, user) == {
        "plan": "Starter", "credits": "0 credits", "amount": "€24.99", "balance": "2 credits",
        "next_date": "22 December 2026", "receipt_url": "https://pay.test/1",
    }  # fmt: skip
    assert told(db, user) == ["subscription_renewed"]


def test_the_first_invoice_tells_that_a_plan_begins(people: People, db: Connection) -> None:
    buyer, trier = people.new(), people.new()
    invoice(db, buyer, reason="subscription_create")
    invoice(db, trier, reason="subscription_create", amount_due=0, amount_paid=0)
    assert told(db, buyer) == told(db, trier) == ["subscription_started"]
    assert (data(db, buyer)["amount"], data(db, buyer)["is_trial"]) == ("€24.99", False)
    assert (data(db, trier)["amount"], data(db, trier)["is_trial"]) == ("", True)


def test_a_change_of_plans_brings_a_receipt_when_it_costs_something(people: People, db: Connection) -> None:
    up, down = people.new(), people.new()
    invoice(db, up, reason="subscription_update", amount_paid=3.5, currency="CHF")
    invoice(db, down, reason="subscription_update", amount_due=0, amount_paid=0)
    assert (told(db, up), told(db, down)) == (["receipt"], [])
    receipt = data(db, up)
    # It brought no credits.
    assert (receipt["product"], receipt["amount"], receipt["credits"]) == ("Plan Starter", "3.50 CHF", "")


def test_an_invoice_that_cannot_be_collected_is_told_of_once(people: People, db: Connection) -> None:
    user, number = people.new(), f"in_{uuid4()}"
    for attempt in (None, 1, 1, 2):
        invoice(db, user, id=number, status="open", attempts=2, failed_attempt=attempt)
    assert told(db, user) == ["payment_failed"]
    invoice(db, user, status="open", attempts=1, failed_attempt=1, reason="subscription_create")
    assert len(told(db, user)) == 1


def test_a_credit_of_an_invoice_is_counted_in_its_mail(people: People, db: Connection) -> None:
    user, number = people.new(), f"in_{uuid4()}"
    people.service.call(
        "grant_credits", p_user_id=user.id, p_amount=60, p_transaction_type="purchase", p_source="subscription",
        p_metadata={"stripe_invoice_id": number},
    )  # fmt: skip
    invoice(db, user, id=number)
    assert (data(db, user)["credits"], data(db, user)["balance"]) == ("60 credits", "62 credits")


# Subscriptions --------------------------------------------------------------------------------------------------------


def subscription(db: Connection, user: Person) -> Any:
    (row,) = db.execute(
        "insert into public.subscription_history (user_id, subscription_plan_id, stripe_subscription_id, status,"
        " started_at) select %s, id, %s, 'active', now() from public.subscription_plans where name = 'basic'"
        " returning id",
        (user.id, f"sub_{uuid4()}"),
    ).fetchall()
    return row["id"]


def change(db: Connection, subscription_id: Any, values: str) -> None:
    for _ in range(2):
        db.execute(f"update public.subscription_history set {values} where id = %s", (subscription_id,))


def test_a_gift_of_a_plan_is_told(people: People, db: Connection) -> None:
    user = people.new()
    people.service.call("admin_comp_subscription", p_user_id=user.id, p_plan="basic", p_months=2, p_reason="thanks")
    gift = data(db, user)
    assert (gift["plan"], gift["credits"], gift["amount"], gift["is_gift"]) == ("Basic", "20 credits", "", True)
    assert told(db, user) == ["subscription_started"]


def test_each_cancellation_is_told_once_and_its_end_not_again(people: People, db: Connection) -> None:
    user = people.new()
    plan = subscription(db, user)
    asked = "cancelled_at = '{}', cancel_at = '2026-12-22T12:00:00Z'"
    change(db, plan, asked.format("2026-12-01T12:00:00Z"))
    assert data(db, user) == {"plan": "Basic", "end_date": "22 December 2026", "is_over": False}
    for hour in (13, 14):  # again on the same day
        change(db, plan, "cancelled_at = null, cancel_at = null")
        change(db, plan, asked.format(f"2026-12-01T{hour}:00:00Z"))
    assert told(db, user) == ["subscription_cancelled"]
    change(db, plan, "cancelled_at = null, cancel_at = null")
    change(db, plan, asked.format("2026-12-02T12:00:00Z"))
    change(db, plan, "status = 'cancelled', ended_at = '2026-12-22T12:00:00Z'")
    assert told(db, user) == ["subscription_cancelled"] * 2


def test_the_end_of_a_plan_that_nobody_asked_for_is_told(people: People, db: Connection) -> None:
    user = people.new()
    change(db, subscription(db, user), "status = 'cancelled', ended_at = '2026-12-22T12:00:00Z'")
    assert data(db, user) == {"plan": "Basic", "end_date": "22 December 2026", "is_over": True}


# Credits --------------------------------------------------------------------------------------------------------------


def spend(people: People, user: Person, amount: int = 1) -> None:
    people.service.call("deduct_user_credits", p_user_id=user.id, p_amount=amount, p_transaction_type="usage")


def test_low_credits_are_told_when_the_balance_falls_below_five_and_once_a_day(people: People, db: Connection) -> None:
    user = people.new(credits=6)
    spend(people, user)
    assert told(db, user) == []
    spend(people, user)
    assert data(db, user) == {"balance": "4 credits"}
    for _ in range(2):
        people.service.call("add_user_credits", p_user_id=user.id, p_amount=5, p_transaction_type="bonus")
        spend(people, user, 6)
    assert told(db, user) == ["credits_low"]
    db.execute("update public.email_logs set created_at = now() - interval '25 hours' where user_id = %s", (user.id,))
    people.service.call("add_user_credits", p_user_id=user.id, p_amount=9, p_transaction_type="bonus")
    spend(people, user, 9)
    assert told(db, user) == ["credits_low"] * 2


def test_somebody_who_never_had_five_credits_is_not_told_that_they_are_low(people: People, db: Connection) -> None:
    user = people.new()
    spend(people, user)
    assert told(db, user) == []


@pytest.mark.parametrize("how", ["preference", "suppression", "deactivated", "not confirmed"])
def test_whoever_does_not_want_notifications_spends_in_peace(people: People, db: Connection, how: str) -> None:
    user = people.new(credits=5)
    if how == "preference":
        user.sql("update public.profiles set notification_emails = false where id = auth.uid()")
    elif how == "suppression":
        people.service.sql("insert into public.email_suppressions (email, reason) values (%s, 'manual')", user.email)
    elif how == "deactivated":
        db.execute("update public.profiles set is_active = false where id = %s", (user.id,))
    else:
        db.execute("update auth.users set email_confirmed_at = null where id = %s", (user.id,))
    spend(people, user)
    assert told(db, user) == []


def expiring(people: People, user: Person, amount: int, days: float) -> None:
    people.service.sql(
        "select public.grant_credits(%s, %s, 'bonus', p_expires_at => now() + make_interval(hours => %s))",
        user.id, amount, int(days * 24),
    )  # fmt: skip


def remind(people: People, function: str) -> int:
    """Run a reminder to its end, as the maintenance does."""
    queued = 0
    while batch := people.service.call(function, p_limit=1):
        queued += batch
    return queued


def test_credits_are_told_of_a_week_before_they_expire_and_once_a_week(people: People, db: Connection) -> None:
    user, other = people.new(), people.new()
    expiring(people, user, 5, 6)
    expiring(people, user, 7, 6.5)
    expiring(people, user, 9, 8)
    expiring(people, other, 9, 8)
    # Who gets no mail does not stand before the others.
    silent = [people.new() for _ in range(3)]
    for person in silent:
        expiring(people, person, 5, 6)
        person.sql("update public.profiles set notification_emails = false where id = auth.uid()")
    assert remind(people, "queue_expiring_credit_emails") >= 1
    found = data(db, user)
    assert (found["credits"], found["balance"]) == ("12 credits", "23 credits")
    assert told(db, other) == [mail for person in silent for mail in told(db, person)] == []
    assert remind(people, "queue_expiring_credit_emails") == 0


def test_images_are_told_of_three_days_before_they_go_and_once_in_three_days(people: People, db: Connection) -> None:
    user, other = people.new(), people.new()
    for person, hours in ((user, 1), (user, 71), (user, 73), (other, 73)):
        db.execute(
            "update public.images set expires_at = now() + make_interval(hours => %s) where id = %s",
            (hours, people.image(person, f"{hours}.png")),
        )
    assert remind(people, "queue_expiring_image_emails") >= 1
    assert data(db, user)["images"] == "2 images"
    assert told(db, other) == []
    assert remind(people, "queue_expiring_image_emails") == 0


@pytest.mark.parametrize("function", ["queue_expiring_credit_emails", "queue_expiring_image_emails"])
@pytest.mark.parametrize("limit", [None, 0, 1001])
def test_a_reminder_has_a_limit(people: People, function: str, limit: int | None) -> None:
    with refused("PT400", "limit"):
        people.service.call(function, p_limit=limit)


# Operations -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_queue")
def test_a_stranger_is_not_told_what_an_account_wrote(people: People, db: Connection) -> None:
    user = people.new(credits=20)
    db.execute("update auth.users set confirmation_sent_at = null where id = %s", (user.id,))
    image = people.image(user, "visit eve.test.png")
    user.call("request_image_operation", p_image_id=image, p_operation_type="vectorize")
    (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
    failure = {"p_operation_id": job["id"], "p_lease_token": job["lease_token"], "p_retryable": False}
    people.service.call("fail_image_operation", **failure, p_error_message="It refers to http://eve.test.")
    found = data(db, user)
    assert (found["operation"], found["file"], found["error"]) == ("Vectorizing", "", "")


@pytest.mark.usefixtures("empty_queue")
def test_a_failed_operation_is_told_with_its_refund_and_once_an_hour(people: People, db: Connection) -> None:
    user = people.new(credits=20)
    for name in ("a.png", "b.png"):
        user.call("request_image_operation", p_image_id=people.image(user, name), p_operation_type="vectorize")
        (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
        failure = {"p_operation_id": job["id"], "p_lease_token": job["lease_token"], "p_error_message": "Too large."}
        people.service.call("fail_image_operation", **failure, p_retryable=False)
        assert told(db, user) == ["operation_failed"]
    assert data(db, user) == {
        "operation": "Vectorizing", "file": "a.png", "error": "Too large.", "credits": "2 credits", "is_refunded": True,
    }  # fmt: skip
