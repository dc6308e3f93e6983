"""`dtf users`, `dtf credits` and `dtf stats`, as an operator runs them against a project."""

import errno
import json
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from typer.testing import CliRunner, Result

from cli.main import app
from cli.output import readable_errors
from local.stack import StackStatus
from tests.database.personas import UNKNOWN
from tests.e2e.people import Person, operator, sign_up

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


class Operator:
    """Runs `dtf` with the project's secret key."""

    def __init__(self, stack: StackStatus) -> None:
        self.environment = {
            "SUPABASE_URL": stack.api_url,
            "SUPABASE_SECRET_KEY": stack.secret_key,
            "COLUMNS": "250",
        }

    def run(self, *arguments: str, status: int = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, env=self.environment, input=answer)
        assert result.exit_code == status, result.output + str(result.exception)
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status).stdout)


@pytest.fixture(scope="module")
def dtf(stack: StackStatus) -> Operator:
    return Operator(stack)


@pytest.fixture
def person(stack: StackStatus) -> Person:
    return sign_up(stack)


def test_users_are_found_by_a_part_of_their_address(dtf: Operator, person: Person) -> None:
    rows = dtf.json("users", "list", "--search", person.email[:20].upper())
    assert [row["id"] for row in rows] == [person.id]
    assert person.email in dtf.run("users", "list").stdout
    assert dtf.json("users", "list", "--search", "%") == [], "% is no wildcard"
    assert person.id not in {row["id"] for row in dtf.json("users", "list", "--admins")}
    assert person.id not in {row["id"] for row in dtf.json("users", "list", "--inactive")}


@pytest.mark.parametrize("name", ["id", "email"])
def test_an_account_is_shown_with_what_it_holds(dtf: Operator, person: Person, name: str) -> None:
    person.upload("shirt.png", PNG)
    shown = dtf.json("users", "show", getattr(person, name))
    assert (shown["id"], shown["counts"]["images"]) == (person.id, 1)
    assert shown["uploads"] == {"used_bytes": shown["counts"]["images"] * 16 * 1024, "limit_bytes": 2 * 1024**3}
    printed = dtf.run("users", "show", person.id).stdout
    assert person.email in printed
    assert "0.00 of 2 GB" in printed


@pytest.mark.parametrize("who", ["nobody@example.com", str(UNKNOWN)])
@pytest.mark.parametrize("command", [("users", "show"), ("users", "export"), ("credits", "show")])
def test_an_unknown_user_is_status_1_and_a_sentence(dtf: Operator, command: tuple[str, str], who: str) -> None:
    result = dtf.run(*command, who, status=1)
    assert f"There is no user {who}" in result.stderr
    assert result.stdout == ""


def test_what_users_wrote_does_not_steer_the_operators_terminal(dtf: Operator, person: Person) -> None:
    person.api.table("profiles").update({"first_name": "\x1b[2J[red]Ada\u009b"}).eq("id", person.id).execute()
    for shown in (dtf.run("users", "show", person.id).stdout, dtf.run("users", "show", person.id, "--json").stdout):
        assert "\x1b[2J" not in shown
        assert "\u009b" not in shown
    assert "[red]Ada" in dtf.run("users", "show", person.id).stdout


def test_an_export_goes_to_a_file_that_only_its_owner_reads(dtf: Operator, person: Person, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    dtf.run("users", "export", person.email, "--output", str(file))
    assert json.loads(file.read_text())["account"]["email"] == person.email
    assert file.stat().st_mode & 0o077 == 0
    assert json.loads(dtf.run("users", "export", person.id).stdout)["profile"]["id"] == person.id


def test_a_user_is_deleted_with_all_files(stack: StackStatus, dtf: Operator, person: Person) -> None:
    for number in range(101):
        person.api.storage.from_("originals").upload(f"{person.id}/{number}.png", PNG, {"content-type": "image/png"})
    person.api.storage.from_("avatars").upload(f"{person.id}/me.png", PNG, {"content-type": "image/png"})
    dtf.run("users", "delete", person.email, "--reason", "asked", answer="n\n", status=1)
    assert dtf.json("users", "show", person.id)
    result = dtf.run("users", "delete", person.email, "--reason", "asked by mail", "--yes")
    assert "102 files" in result.stderr
    dtf.run("users", "show", person.id, status=1)
    storage = operator(stack).storage
    assert [storage.from_(bucket).list(person.id) for bucket in ("originals", "avatars")] == [[], []]
    log: Any = operator(stack).table("admin_logs").select("*").eq("target_id", person.id).execute().data
    assert log[0]["details"] == {"reason": "asked by mail"}


def test_files_stay_when_the_account_may_not_go(stack: StackStatus, dtf: Operator, person: Person) -> None:
    person.upload("shirt.png", PNG)
    profiles = operator(stack).table("profiles")
    profiles.update({"is_admin": True}).eq("id", person.id).execute()
    result = dtf.run("users", "delete", person.id, "--reason", "x", "--yes", status=1)
    assert "admin's rights" in result.stderr
    assert len(person.api.storage.from_("originals").list(person.id)) == 1


def test_credits_are_given_taken_and_shown(dtf: Operator, person: Person) -> None:
    given = ("credits", "grant", person.email, "10", "--reason", "goodwill", "--key", "gift")
    first = dtf.json(*given, "--expires", "2099-01-01")
    assert dtf.json(*given, "--expires", "2099-01-01") == first
    assert (first["amount"], first["balance_after"]) == (10, 12)
    assert "idempotency key" in dtf.run(*given, status=1).stderr
    assert dtf.json("credits", "deduct", person.id, "4", "--reason", "a slip") == {"balance": 8}
    shown = dtf.json("credits", "show", person.id)
    assert (shown["credits_remaining"], [entry["amount"] for entry in shown["entries"]]) == (8, [4, 10, 2])
    assert sum(grant["remaining"] for grant in shown["grants"]) == 8
    text = dtf.run("credits", "show", person.id).stdout
    assert "goodwill" in text
    assert "-4" in text
    result = dtf.run("credits", "deduct", person.id, "9", "--reason", "x", status=1)
    assert "Insufficient credits. Required: 9, Available: 8" in result.stderr


def test_a_charge_is_refunded_once(stack: StackStatus, dtf: Operator, person: Person) -> None:
    arguments = {"p_user_id": person.id, "p_amount": 2, "p_transaction_type": "usage"}
    operator(stack).rpc("deduct_user_credits", arguments).execute()
    charge = dtf.json("credits", "show", person.id)["entries"][0]["id"]
    assert "balance is 2" in dtf.run("credits", "refund", charge, "--reason", "bad print").stderr
    assert "refunded already" in dtf.run("credits", "refund", charge, "--reason", "again", status=1).stderr
    assert "Transaction not found" in dtf.run("credits", "refund", str(uuid.uuid4()), "--reason", "x", status=1).stderr


def test_rights_are_given_and_taken(dtf: Operator, person: Person) -> None:
    for command, right, value in (
        ("promote", "is_admin", True),
        ("demote", "is_admin", False),
        ("deactivate", "is_active", False),
        ("activate", "is_active", True),
    ):
        assert person.email in dtf.run("users", command, person.email, "--reason", "because").stderr
        assert dtf.json("users", "show", person.id)[right] is value
    assert "reason" in dtf.run("users", "promote", person.id, "--reason", "", status=1).stderr


def test_a_plan_is_comped_and_every_command_leaves_its_reason(
    stack: StackStatus, dtf: Operator, person: Person
) -> None:
    assert "until" in dtf.run("users", "comp", person.email, "basic", "--months", "2", "--reason", "press").stderr
    assert person.credits() == 42
    assert "already" in dtf.run("users", "comp", person.email, "basic", "--reason", "again", status=1).stderr
    dtf.run("credits", "deduct", person.id, "1", "--reason", "a slip")
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        logged = connection.execute(
            "select action, details ->> 'reason' from public.admin_logs where target_user_id = %s order by created_at",
            (person.id,),
        ).fetchall()
    assert logged == [("admin_comp_subscription", "press"), ("admin_adjust_credits", "a slip")]


def test_operations_are_listed_shown_and_cancelled(dtf: Operator, person: Person) -> None:
    operation = person.request(person.upload("shirt.png", PNG), "upscale")
    (row,) = dtf.json("operations", "list", "--user", person.email)
    assert (row["id"], row["status"], row["profiles"]["email"]) == (operation["id"], "pending", person.email)
    assert person.email in dtf.run("operations", "list", "--status", "pending").stdout
    assert dtf.json("operations", "list", "--user", person.id, "--status", "failed") == []
    assert "1 credits" in dtf.run("operations", "cancel", operation["id"], "--reason", "not a picture").stderr
    shown = dtf.json("operations", "show", operation["id"])
    assert (shown["status"], shown["error_message"]) == ("cancelled", "Cancelled: not a picture")
    assert person.credits() == 2
    assert "already cancelled" in dtf.run("operations", "cancel", operation["id"], "--reason", "x", status=1).stderr
    assert "no operation" in dtf.run("operations", "show", str(uuid.uuid4()), status=1).stderr


def test_plans_and_prices_are_made_and_changed(stack: StackStatus, dtf: Operator) -> None:
    name = f"plan-{uuid.uuid4().hex[:8]}"
    assert "--credits-per-month too" in dtf.run("plans", "plan", name, "--monthly-price", "5", status=1).stderr
    dtf.run("plans", "plan", name, "--monthly-price", "5", "--credits-per-month", "10", "--inactive")
    dtf.run("plans", "plan", name, "--monthly-price", "6.5")
    plans = {row["name"]: row for row in dtf.json("plans", "list")["subscription_plans"]}
    shown = [plans[name][column] for column in ("monthly_price", "credits_per_month", "is_active")]
    assert shown == [6.5, 10, False]
    assert name in dtf.run("plans", "list").stdout
    assert "Nothing to change" in dtf.run("plans", "plan", name, status=1).stderr

    dtf.run("plans", "package", name, "--price", "3", "--credits", "4", "--inactive")
    assert "made" not in dtf.run("plans", "package", name, "--price", "3.5").stderr
    packages = {row["name"]: row for row in dtf.json("plans", "list")["pay_as_you_go_packages"]}
    assert (packages[name]["price"], packages[name]["credits"]) == (3.5, 4)

    dtf.run("plans", "operation", "generate", "--credits", "3")
    dtf.run("plans", "operation", "generate", "--credits", "2")
    for table in ("subscription_plans", "pay_as_you_go_packages"):
        operator(stack).table(table).delete().eq("name", name).execute()


def test_expired_credits_go(stack: StackStatus, dtf: Operator, person: Person) -> None:
    entry = dtf.json("credits", "grant", person.id, "5", "--reason", "trial", "--expires", "2099-01-01")
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        connection.execute(
            "update public.credit_grants set expires_at = now() - interval '1 day' where transaction_id = %s",
            (entry["id"],),
        )
    expired = {row["user_id"]: row["credits"] for row in dtf.json("credits", "expire")}
    assert expired[person.id] == 5
    assert dtf.json("credits", "expire") == []
    assert person.credits() == 2


def test_verify_is_status_1_exactly_when_the_ledger_is_broken(
    stack: StackStatus, dtf: Operator, person: Person
) -> None:
    assert "sound" in dtf.run("credits", "verify").stderr
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        connection.execute("update public.profiles set credits_remaining = 3 where id = %s", (person.id,))
        try:
            found = dtf.json("credits", "verify", status=1)
            assert {row["user_id"] for row in found} == {person.id}
            assert person.id in dtf.run("credits", "verify", status=1).stdout
        finally:
            connection.execute("update public.profiles set credits_remaining = 2 where id = %s", (person.id,))
    assert dtf.json("credits", "verify") == []


def test_a_project_that_does_not_answer_is_one_sentence() -> None:
    environment: dict[str, str | None] = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SECRET_KEY": "sb_secret_x"}
    result = CliRunner().invoke(app, ["credits", "verify"], env=environment)
    assert (result.exit_code, "does not answer" in result.stderr) == (1, True), result.output
    result = CliRunner().invoke(app, ["credits", "verify"], env=environment | {"SUPABASE_SECRET_KEY": None})
    assert "SUPABASE_SECRET_KEY is not" in result.stderr
    result = CliRunner().invoke(app, ["credits", "verify"], env=environment | {"SUPABASE_URL": "project.example.test"})
    assert (result.exit_code, "SUPABASE_URL cannot be used" in result.stderr) == (1, True), result.output


def test_a_folder_of_somebody_else_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), readable_errors():
        raise PermissionError(errno.EACCES, "Permission denied", "/srv/editor/.dtf/state.json")
    assert "/srv/editor/.dtf/state.json is not yours to use: Permission denied." in capsys.readouterr().err


FIGURES = ("revenue", "margins", "funnel", "retention", "queue", "engines")


def test_the_figures_say_what_was_sold_and_done(dtf: Operator, stack: StackStatus, person: Person) -> None:
    def dollars() -> tuple[float, float]:
        """What came in, and what operations earned."""
        shown = dtf.json("stats", "revenue", "margins", "--months", "1")
        net = sum(row["net"] for row in shown["revenue"] if row["currency"] == "USD")
        return net, sum(row["earned"].get("USD", 0) for row in shown["margins"])

    before = dollars()
    sale = {"p_user_id": person.id, "p_amount": 10, "p_transaction_type": "purchase", "p_priority": -1}
    operator(stack).rpc("grant_credits", sale | {"p_money_amount": 7.99, "p_currency": "USD"}).execute()
    person.request(person.upload("shirt.png", PNG), "vectorize")
    net, earned = (after - earlier for after, earlier in zip(dollars(), before, strict=True))
    assert (round(net, 2), round(earned, 4)) == (7.99, 1.598)

    printed = dtf.run("stats").stdout
    for word in ("Revenue, 12 months", "Margin USD", "Signed up", "Oldest", "Engines, 24 hours", "vectorize"):
        assert word in printed
    assert set(dtf.json("stats")) == set(FIGURES)


def test_figures_fit_their_period(dtf: Operator) -> None:
    (cohort, *_) = dtf.json("stats", "retention", "--months", "1")["retention"]
    assert cohort["month_number"] == 0
    assert dtf.json("stats", "queue").keys() == {"queue"}
    dtf.run("stats", "revenue", "--months", "0", status=2)
    dtf.run("stats", "weather", status=2)
