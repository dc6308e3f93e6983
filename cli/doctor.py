"""`dtf doctor`: whether a project has all it needs, and what to do where it has not."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from cli.errors import CommandError
from cli.output import AsJson, console, errors, plain, print_json, readable_errors
from cli.project import RefusedError, answers, call, connect, count, counted, local_stack
from local.migrations import outdated
from local.stack import PROJECT, StackStatus

if TYPE_CHECKING:
    from supabase import Client

BUCKETS = {"originals", "results", "avatars"}
# A function, a column or a table that is not there, as PostgREST and as Postgres call it.
MISSING = {"PGRST202", "PGRST204", "PGRST205", "42883", "42703", "42P01"}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LONGEST_WAIT = 60.0  # seconds that an operation waits where a worker is idle or busy with others'
LONGEST_MAIL_WAIT = timedelta(minutes=10)
LONGEST_SILENCE = timedelta(minutes=15)  # of the maintenance service, which writes metrics every five


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


SIGNS = {Verdict.OK: "[green]✓[/green]", Verdict.WARNING: "[yellow]![/yellow]", Verdict.FAILED: "[red]✗[/red]"}


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it."""

    check: str
    verdict: Verdict
    message: str
    advice: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Check the project: its schema, ledger, queue, catalogue and services. Status 1 where something is broken.

    Takes the project from SUPABASE_URL and SUPABASE_SECRET_KEY, or else the stack that runs on this machine.
    """
    with readable_errors(), errors.status("Checking"):
        try:
            client = connect()
        except CommandError as error:
            findings = [failed("Settings", str(error))]
        else:
            findings = list(examine(client, local_stack()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            advice = f" {finding.advice}" if finding.advice else ""
            text = plain(f"{finding.check}: {finding.message}{advice}")
            console.print(f"{SIGNS[finding.verdict]} {text}", highlight=False, soft_wrap=True)
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(1)


def examine(client: Client, stack: StackStatus | None) -> Iterator[Finding]:
    """The findings, in the order in which things depend on each other; none after the project does not answer.

    Of a stack on this machine it is known with which migrations it was made.
    """
    schema = check_schema(client)
    yield schema
    if stack and (told := outdated(PROJECT, stack.db_url)):
        yield failed("Schema", f"{told}.", "What to do is told by: dtf up")
    if schema.verdict is Verdict.OK:
        for check in CHECKS:
            try:
                yield check(client)
            except RefusedError as error:
                if error.code not in MISSING:
                    raise
                yield failed(
                    "Schema", f"older than this checkout: {error}", "Apply the migrations: dtf up, or supabase db push."
                )


def check_schema(client: Client) -> Finding:
    """Whether the functions are there, and the key may call them."""
    try:
        call(client, "stats_queue")
    except RefusedError as error:
        if error.code in MISSING:
            return failed("Schema", "the functions are missing.", "Apply the migrations: dtf up, or supabase db push.")
        return failed("Key", f"it may not act for the project: {error}", "Set SUPABASE_SECRET_KEY to a secret key.")
    except CommandError as error:
        return failed("Project", str(error))
    return ok("Project", f"{client.supabase_url} answers, with its functions.")


def check_triggers(client: Client) -> Finding:
    """Whether what has to follow a sign-up or an upload does, also in a project that came from a dump."""
    if missing := call(client, "missing_triggers"):
        advice = "See docs/deployment.md: a dump of public and private leaves out what is in Supabase's own schemas."
        return failed("Triggers", f"nothing calls {', '.join(missing)}.", advice)
    return ok("Triggers", "they are there.")


def check_auth(client: Client) -> Finding:
    """Whether whoever signs up with an address must be able to read its mail."""
    import httpx

    with answers():
        answer = httpx.get(f"{client.auth_url}/settings", headers={"apikey": client.supabase_key})
    if answer.status_code != httpx.codes.OK:
        return warning("Auth", f"it does not tell its settings ({answer.status_code}).", "Look at it in the dashboard.")
    settings = answer.json()
    if not settings["mailer_autoconfirm"]:
        return ok("Auth", "an address is confirmed before it is used.")
    if client.supabase_url.host in LOOPBACK:
        return ok("Auth", "confirmations are off, as on a stack of one's own.")
    return warning(
        "Auth",
        "confirmations are off: anybody signs up with anybody's address, and gets free credits for each.",
        "Switch them on: Confirm email in the dashboard, or enable_confirmations in supabase/config.toml and "
        "dtf supabase config push.",
    )


def check_storage(client: Client) -> Finding:
    """Whether the buckets are there."""
    with answers():
        missing = BUCKETS - {bucket.id for bucket in client.storage.list_buckets()}
    if missing:
        return failed("Storage", f"no bucket {', '.join(sorted(missing))}.", "Apply the migrations: they make it.")
    return ok("Storage", "the buckets are there.")


def check_ledger(client: Client) -> Finding:
    """Whether the books are sound."""
    if violations := call(client, "verify_ledger"):
        return failed("Ledger", f"{len(violations)} violated invariants.", "See: dtf credits verify")
    return ok("Ledger", "sound.")


def check_admin(client: Client) -> Finding:
    """Whether somebody may administer the project."""
    if count(counted(client, "profiles").eq("is_admin", True).eq("is_active", True)):
        return ok("Admin", "there is one.")
    return warning("Admin", "there is none.", "Once somebody has signed up: dtf users promote ADDRESS --reason founder")


def check_queue(client: Client) -> Finding:
    """Whether somebody works on operations."""
    rows = call(client, "stats_queue")
    waiting = sum(row["waiting"] for row in rows)
    oldest = max((float(row["oldest_wait_seconds"] or 0) for row in rows), default=0.0)
    if waiting and oldest > LONGEST_WAIT:
        return warning(
            "Queue", f"{waiting} operations wait, the oldest for {oldest:.0f} s.", "Start a worker: dtf run images"
        )
    return ok("Queue", f"{waiting} operations wait.")


def check_engines(_: Client | None = None) -> Finding:
    """Whether the engines work in this installation, each with its libraries and files."""
    # A process of their own: libraries in C that do not suit a Python take it down.
    command = [sys.executable, "-m", "services.images.engines"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return ok("Engines", "they work.")
    engine = (done.stdout.splitlines() or ["all"])[-1]
    if done.returncode < 0:
        return failed(
            "Engines",
            f"that of {engine} ends its process with {signal.Signals(-done.returncode).name}.",
            f"Install with another Python than {platform.python_version()}: see the README for those that work.",
        )
    return failed(
        "Engines", f"that of {engine} does not work. {(done.stderr.splitlines() or ['It says nothing.'])[-1]}"
    )


def check_set_aside(client: Client) -> Finding:
    """Whether something has to be mended before it can be done."""
    rows = counted(client, "set_aside_rows").order("set_aside_at").limit(1)
    with answers():
        found = rows.execute()
    if found.count:
        first = found.data[0]
        advice = "See: dtf operations aside; once it is mended: dtf operations retry"
        return failed("Set aside", f"{found.count} rows, the first by {first['task']}: {first['reason']}.", advice)
    return ok("Set aside", "nothing had to be.")


def check_maintenance(client: Client) -> Finding:
    """Whether something runs by the clock."""
    # Of one of the metrics, which an index finds; they are all written together.
    query = client.table("system_metrics").select("recorded_at").eq("metric_name", "accounts")
    with answers():
        newest: Any = query.order("recorded_at", desc=True).limit(1).execute().data
    if newest and datetime.now(UTC) - datetime.fromisoformat(newest[0]["recorded_at"]) < LONGEST_SILENCE:
        return ok("Maintenance", "it ran a short while ago.")
    when = f"last ran at {newest[0]['recorded_at']}" if newest else "never ran"
    return warning("Maintenance", f"it {when}.", "Start it: dtf run maintenance, or pg_cron")


def check_catalogue(client: Client) -> Finding:
    """Whether what is for sale has its price at Stripe."""
    unsold = 0
    for table, price in (("subscription_plans", "monthly_price"), ("pay_as_you_go_packages", "price")):
        unsold += count(counted(client, table).eq("is_active", True).gt(price, 0).is_("stripe_price_id", "null"))
    if unsold:
        advice = "To sell them, with Stripe or dtf stripe local: dtf stripe sync"
        return warning("Catalogue", f"{unsold} plans and packages cannot be bought.", advice)
    return ok("Catalogue", "everything in it is for sale.")


def check_events(client: Client) -> Finding:
    """Whether what happened at Stripe was applied."""
    if broken := count(counted(client, "stripe_events").eq("status", "failed")):
        return failed("Stripe", f"{broken} events could not be applied.", "Run: dtf stripe replay")
    if unplaced := count(counted(client, "billing_invoices").not_.is_("trouble", "null")):
        return failed("Stripe", f"{unplaced} paid invoices brought no credits.", "See: dtf stripe reconcile")
    return ok("Stripe", "every event that came was applied.")


def check_mails(client: Client) -> Finding:
    """Whether somebody sends mails, and whether it is known what became of each."""
    since = (datetime.now(UTC) - LONGEST_MAIL_WAIT).isoformat()
    # Those of campaigns wait for their turn.
    queued = counted(client, "email_logs").eq("status", "queued").is_("campaign_id", "null")
    if waiting := count(queued.lt("next_attempt_at", since)):
        tried = client.table("email_logs").select("error").eq("status", "queued").not_.is_("error", "null")
        with answers():
            told: Any = tried.order("next_attempt_at", desc=True).limit(1).execute().data
        if told:
            message = f"{waiting} wait for too long. One that was tried: {told[0]['error']}"
            return warning("Mails", message, "See /healthz of the sender.")
        return warning("Mails", f"{waiting} wait for too long.", "Start a sender: dtf run email")
    if unknown := count(counted(client, "email_logs").eq("status", "unknown")):
        return warning("Mails", f"{unknown} may have been sent or not.", "See: dtf email list --status unknown")
    return ok("Mails", "none waits for long.")


CHECKS: tuple[Callable[[Client], Finding], ...] = (
    check_triggers,
    check_auth,
    check_storage,
    check_ledger,
    check_admin,
    check_queue,
    check_engines,
    check_set_aside,
    check_maintenance,
    check_catalogue,
    check_events,
    check_mails,
)


def ok(check: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Verdict.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    """Something that may be meant."""
    return Finding(check, Verdict.WARNING, message, advice)


def failed(check: str, message: str, advice: str = "") -> Finding:
    """Something that is broken."""
    return Finding(check, Verdict.FAILED, message, advice)
