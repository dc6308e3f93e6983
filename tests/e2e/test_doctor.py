"""`dtf doctor` against a project where something is wrong."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli import doctor
from local.stack import PROJECT, Stack, StackStatus
from tests.e2e.people import Person, operator, sign_up
from tests.e2e.test_operator import PNG, Operator

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def dtf(stack: StackStatus, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """`dtf` whose doctor does not start the engines, which takes longer than all the rest."""
    monkeypatch.setattr(doctor, "CHECKS", tuple(check for check in doctor.CHECKS if check is not doctor.check_engines))
    return Operator(stack)


@pytest.fixture
def db(stack: StackStatus) -> Iterator[Connection]:
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(autouse=True)
def _nothing_left_by_others(db: Connection) -> None:
    db.execute("delete from public.stripe_events where status = 'failed'")
    db.execute("delete from public.email_logs where status in ('queued', 'unknown')")
    db.execute(
        "select public.admin_cancel_image_operation(id, 'test') from public.image_operations"
        " where status in ('pending', 'processing')"
    )


@pytest.fixture
def person(stack: StackStatus) -> Person:
    return sign_up(stack)


def found(dtf: Operator, check: str, status: int = 0) -> dict[str, str]:
    (finding,) = [finding for finding in dtf.json("doctor", status=status) if finding["check"] == check]
    return dict(finding)


def test_a_sound_project_is_called_sound(stack: StackStatus) -> None:
    dtf = Operator(stack)
    operator(stack).rpc("record_system_metrics", {}).execute()
    verdicts = {finding["check"]: finding["verdict"] for finding in dtf.json("doctor")}
    for check in ("Project", "Triggers", "Auth", "Storage", "Ledger", "Engines", "Maintenance", "Stripe"):
        assert verdicts[check] == "ok", check
    assert "✓ Ledger: sound." in dtf.run("doctor").stdout


def test_a_schema_of_another_version_is_broken(local_stack: Stack, dtf: Operator, db: Connection) -> None:
    dtf.environment = {"DTF_DIRECTORY": str(local_stack.directory), "COLUMNS": "250"}
    db.execute("update supabase_migrations.schema_migrations set statements[1] = 'select 1' where name = 'profiles'")
    db.execute("alter table public.profiles rename column is_admin to was_admin")
    try:
        findings = [finding for finding in dtf.json("doctor", status=1) if finding["check"] == "Schema"]
    finally:
        db.execute("alter table public.profiles rename column was_admin to is_admin")
        db.execute(
            "update supabase_migrations.schema_migrations set statements = (select array[%s]) where name = 'profiles'",
            (next((PROJECT / "supabase" / "migrations").glob("*_profiles.sql")).read_text(),),
        )
    assert [finding["verdict"] for finding in findings] == ["failed", "failed"]
    assert findings[0]["message"].startswith("1 of ")
    assert findings[0]["advice"] == "What to do is told by: dtf up"
    assert "older than this checkout: column profiles.is_admin does not exist." in findings[1]["message"]
    assert {finding["check"] for finding in dtf.json("doctor")} & {"Schema"} == set()


def test_a_lost_trigger_is_broken(dtf: Operator, db: Connection) -> None:
    db.execute("create function private.greet() returns trigger language plpgsql as 'begin return null; end'")
    try:
        assert found(dtf, "Triggers", status=1)["message"] == "nothing calls greet."
    finally:
        db.execute("drop function private.greet()")


def test_a_hosted_project_without_confirmations_is_named(dtf: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOOPBACK", frozenset[str]())
    finding = found(dtf, "Auth")
    assert finding["verdict"] == "warning"
    assert "confirmations are off" in finding["message"]
    assert "enable_confirmations" in finding["advice"]


def test_a_violated_ledger_is_broken(dtf: Operator, person: Person, db: Connection) -> None:
    change = "update public.profiles set credits_remaining = credits_remaining + %s where id = %s"
    db.execute(change, (5, person.id))
    try:
        finding = found(dtf, "Ledger", status=1)
        assert (finding["verdict"], finding["advice"]) == ("failed", "See: dtf credits verify")
    finally:
        db.execute(change, (-5, person.id))
    assert found(dtf, "Ledger")["verdict"] == "ok"


def test_what_was_set_aside_is_broken_listed_and_done_after_all(
    local_stack: Stack, dtf: Operator, person: Person, db: Connection
) -> None:
    operation = person.request(person.upload("art.png", PNG), "upscale")
    db.execute(
        "update public.image_operations set status = 'processing', attempts = max_attempts,"
        " lease_expires_at = now() - interval '1 hour' where id = %s",
        (operation["id"],),
    )

    def rename_charge(old: str, new: str) -> None:
        with psycopg.connect(local_stack.state.admin_url) as admin:
            admin.execute("set local session_replication_role = replica")
            change = "update public.credit_transactions set idempotency_key = %s where idempotency_key = %s"
            admin.execute(change, (new, old))

    rename_charge(f"operation:{operation['id']}:charge", "lost")
    db.execute("select public.requeue_lost_image_operations()")
    finding = found(dtf, "Set aside", status=1)
    assert "charge of the operation is not in the ledger" in finding["message"]
    assert "dtf operations retry" in finding["advice"]
    (row,) = dtf.json("operations", "aside")
    assert (row["row_id"], row["user_id"]) == (operation["id"], person.id)
    assert operation["id"] in dtf.run("operations", "aside").stdout
    assert "not in the ledger" in dtf.run("operations", "retry", operation["id"], status=1).stdout

    rename_charge("lost", f"operation:{operation['id']}:charge")
    assert "Nothing is set aside" in dtf.run("operations", "retry").stderr
    assert found(dtf, "Set aside")["verdict"] == "ok"
    assert person.credits() == 2
    assert "set aside" in dtf.run("operations", "retry", operation["id"], status=1).stderr


def test_an_operation_that_nobody_works_on_asks_for_a_worker(dtf: Operator, person: Person, db: Connection) -> None:
    operation = person.request(person.upload("shirt.png", PNG), "upscale")
    db.execute(
        "update public.image_operations set run_after = now() - interval '10 minutes' where id = %s", (operation["id"],)
    )
    finding = found(dtf, "Queue")
    assert finding["verdict"] == "warning"
    assert "dtf run images" in finding["advice"]
    dtf.run("operations", "cancel", operation["id"], "--reason", "test")
    assert found(dtf, "Queue")["verdict"] == "ok"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        # At its first call, as vtracer does with Python 3.14.
        (
            "import os, signal\ndef __getattr__(name): return lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV)",
            "ends its process with SIGSEGV",
        ),
        ("raise RuntimeError('The weights are missing.')", "does not work. RuntimeError: The weights are missing."),
    ],
)
def test_an_engine_that_does_not_work_is_named(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vtracer.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = doctor.check_engines()
    assert finding.verdict == "failed"
    assert finding.message.startswith(f"that of vectorize {told}")


def test_an_event_that_failed_is_broken(dtf: Operator, db: Connection) -> None:
    event = f"evt_{uuid.uuid4().hex}"
    db.execute("select public.fail_stripe_event(%s, 'invoice.paid', '{}', 'no such price')", (event,))
    try:
        assert "dtf stripe replay" in found(dtf, "Stripe", status=1)["advice"]
    finally:
        db.execute("delete from public.stripe_events where id = %s", (event,))


def test_money_that_brought_no_credits_is_broken(dtf: Operator, person: Person, db: Connection) -> None:
    db.execute(
        "insert into public.billing_invoices (id, user_id, stripe_subscription_id, reason, status, amount_due,"
        " amount_paid, currency, attempts, created_at, paid_at, trouble)"
        " values (%s, %s, 'sub_1', 'manual', 'paid', 5, 5, 'USD', 1, now(), now(), 'No plan has the price')",
        (f"in_{uuid.uuid4().hex}", person.id),
    )
    try:
        assert "dtf stripe reconcile" in found(dtf, "Stripe", status=1)["advice"]
    finally:
        db.execute("delete from public.billing_invoices where user_id = %s", (person.id,))


def test_a_mail_that_nobody_sends_asks_for_a_sender(dtf: Operator, person: Person, db: Connection) -> None:
    queued = db.execute("select private.queue_email(%s, 'welcome', %s, '{}')", (person.id, f"test:{person.id}"))
    (email_id,) = queued.fetchone() or (None,)
    assert email_id is not None
    for status, advice in (("queued", "dtf run email"), ("unknown", "dtf email list")):
        db.execute(
            "update public.email_logs set status = %s, next_attempt_at = now() - interval '1 hour' where id = %s",
            (status, email_id),
        )
        assert advice in found(dtf, "Mails")["advice"]
    db.execute("update public.email_logs set status = 'queued', error = '550 5.4.5 Quota' where id = %s", (email_id,))
    assert "One that was tried: 550 5.4.5 Quota" in found(dtf, "Mails")["message"]
    db.execute("delete from public.email_logs where id = %s", (email_id,))
    assert found(dtf, "Mails")["verdict"] == "ok"


def test_a_key_that_is_no_secret_key_is_named(stack: StackStatus, dtf: Operator) -> None:
    dtf.environment["SUPABASE_SECRET_KEY"] = stack.publishable_key
    (finding,) = dtf.json("doctor", status=1)
    assert (finding["check"], finding["verdict"]) == ("Settings", "failed")
    assert "it is a publishable key" in finding["message"]
    dtf.environment["SUPABASE_SECRET_KEY"] = "sb_secret_of_another_project"
    (finding,) = dtf.json("doctor", status=1)
    assert (finding["check"], finding["verdict"]) == ("Key", "failed")


def test_a_project_that_does_not_answer_is_named(dtf: Operator) -> None:
    dtf.environment["SUPABASE_URL"] = "http://127.0.0.1:9"
    (finding,) = dtf.json("doctor", status=1)
    assert "Is SUPABASE_URL right?" in finding["message"]
