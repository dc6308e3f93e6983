"""`dtf email list`, `show`, `retry` and `suppressions`: what became of each mail, and who gets none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.progress import track

from cli.arguments import moment
from cli.errors import CommandError
from cli.output import AsJson, console, done, errors, plain, print_facts, print_json, print_rows, readable_errors
from cli.project import RefusedError, answers, call, connect, containing

if TYPE_CHECKING:
    from supabase import Client

suppressions = typer.Typer(help="Addresses that get essential mails only.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(min=1, max=1000, help="Newest rows to show.")]
Mail = Annotated[UUID, typer.Argument(help="Id of the mail: dtf email list.")]
Type = Annotated[str | None, typer.Option("--type", help="Such as receipt.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=moment, metavar="TIME", help="Queued then or later, UTC."),
]
Address = Annotated[str, typer.Argument(help="The whole e-mail address.")]

LIST_COLUMNS = {
    "created_at": "Queued",
    "type": "Type",
    "status": "Status",
    "recipient": "To",
    "attempts": "Attempts",
    "id": "Id",
    "error": "Error",
}
EVENT_COLUMNS = {"occurred_at": "When", "event_type": "Event", "sg_event_id": "Id"}
SUPPRESSION_COLUMNS = {"email": "Address", "reason": "Reason", "detail": "Detail", "created_at": "Since"}

CONFLICT = "PT409"
PAGE = 1000  # rows that the API gives out at most


class Status(StrEnum):
    """What can become of a mail."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class Stuck(StrEnum):
    """What may have become of a mail that is sent again."""

    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"


def list_emails(
    status: Annotated[list[Status] | None, typer.Option(help="Only these; may be repeated.")] = None,
    mail_type: Type = None,
    to: Annotated[str, typer.Option(help="Part of the address.")] = "",
    since: Since = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List mails, the newest first."""
    with readable_errors(), answers():
        query = _mails(connect(), "*", status, mail_type, since).order("created_at", desc=True).limit(limit)
        if to:
            query = query.ilike("recipient", containing(to))
        rows = [_with_type(row) for row in _rows(query)]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, LIST_COLUMNS)


def show(email: Mail, as_json: AsJson = False) -> None:
    """Show a mail and the events that were heard of it."""
    with readable_errors():
        client = connect()
        with answers():
            found = _rows(client.table("email_logs").select("*, email_templates(type)").eq("id", str(email)))
            events = _rows(
                client.table("email_events").select("*").eq("email_log_id", str(email)).order("occurred_at", desc=True)
            )
        if not found:
            raise CommandError(f"There is no mail {email}. See: dtf email list")
    mail = _with_type(found[0])
    if as_json:
        print_json(mail | {"events": events})
        return
    print_facts(mail)
    console.print()
    print_rows(events, EVENT_COLUMNS)


def retry(
    reason: Annotated[str, typer.Option(help="Why; it stays in admin_logs.")],
    email: Annotated[UUID | None, typer.Argument(help="Id of one mail: dtf email list.")] = None,
    status: Annotated[list[Stuck] | None, typer.Option(help="All of these; may be repeated.")] = None,
    since: Since = None,
    mail_type: Type = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a mail again that failed, was suppressed, or of which nobody knows whether it was sent.

    With --status and --since, all of them, after an outage: it says how many and asks first. One that is unknown may
    have been accepted: look into the provider's own log first, or it comes twice.
    """
    if email and not (status or since or mail_type):
        _retry_one(email, reason, as_json=as_json)
    elif not email and status and since:
        _retry_all(status, since, mail_type, reason, is_sure=yes, as_json=as_json)
    else:
        raise typer.BadParameter("Name one mail by its id, or many with --status and --since.")


def _retry_one(email: UUID, reason: str, *, as_json: bool) -> None:
    with readable_errors():
        row = call(connect(), "retry_email", email_id=str(email), reason=reason)
    if as_json:
        print_json(row)
    else:
        done(f"Queued the mail {email} again.")


def _retry_all(
    status: list[Stuck], since: datetime, mail_type: str | None, reason: str, *, is_sure: bool, as_json: bool
) -> None:
    refused = Counter[str]()
    with readable_errors():
        client = connect()
        mails = _all_stuck(client, status, since, mail_type)
        if mails and not is_sure:
            kinds = Counter(f"{mail['status']} {mail['type']}" for mail in mails)
            what = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            doubt = " Those that are unknown may come twice." if Stuck.UNKNOWN in status else ""
            typer.confirm(f"Queue {len(mails)} mails again ({what})?{doubt}", abort=True, err=True)
        for mail in track(mails, "Queueing", console=errors, transient=True):
            try:
                call(client, "retry_email", email_id=mail["id"], reason=reason)
            except RefusedError as error:
                if error.code != CONFLICT:
                    raise
                refused[str(error)] += 1
    queued = len(mails) - refused.total()
    if as_json:
        print_json({"queued": queued, "refused": refused})
        return
    done(f"Queued {queued} mails again.")
    for problem, count in refused.items():
        errors.print(f"[yellow]![/yellow] {count} not: {plain(problem)}", highlight=False, soft_wrap=True)


def _all_stuck(client: Client, status: list[Stuck], since: datetime, mail_type: str | None) -> list[dict[str, Any]]:
    """The ids, statuses and types of all the mails, page by page."""
    found: list[dict[str, Any]] = []
    with answers():
        while True:
            query = _mails(client, "id, status", status, mail_type, since).order("id").limit(PAGE)
            rows = _rows(query.gt("id", found[-1]["id"]) if found else query)
            found += [_with_type(row) for row in rows]
            if len(rows) < PAGE:
                return found


@suppressions.command("list")
def list_suppressions(
    search: Annotated[str, typer.Option(help="Part of the address.")] = "", limit: Limit = 50, as_json: AsJson = False
) -> None:
    """List the addresses that bounced, complained or were entered, the newest first."""
    with readable_errors(), answers():
        query = connect().table("email_suppressions").select("*").order("created_at", desc=True).limit(limit)
        if search:
            query = query.ilike("email", containing(search))
        rows = _rows(query)
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, SUPPRESSION_COLUMNS)


@suppressions.command()
def add(address: Address, reason: Annotated[str, typer.Option(help="Why.")]) -> None:
    """Send an address no more than essential mails."""
    with readable_errors(), answers():
        row = {"email": address.lower(), "reason": "manual", "detail": reason}
        connect().table("email_suppressions").upsert(row, on_conflict="email,reason", ignore_duplicates=True).execute()
    done(f"{address} gets essential mails only.")


@suppressions.command()
def lift(address: Address) -> None:
    """Send an address everything again that its owner wants. SendGrid keeps lists of its own: lift it there too."""
    with readable_errors():
        with answers():
            lifted = _rows(connect().table("email_suppressions").delete().eq("email", address.lower()))
        if not lifted:
            raise CommandError(f"{address} is not suppressed. See: dtf email suppressions list")
    done(f"Lifted: {', '.join(row['reason'] for row in lifted)}.")


def _mails(
    client: Client,
    columns: str,
    status: Sequence[Status] | Sequence[Stuck] | None,
    mail_type: str | None,
    since: datetime | None,
) -> Any:
    """A query of mails with the type of each, filtered by what is given."""
    join = "email_templates!inner(type)" if mail_type else "email_templates(type)"
    query: Any = client.table("email_logs").select(f"{columns}, {join}")
    if status:
        query = query.in_("status", [str(one) for one in status])
    if mail_type:
        query = query.eq("email_templates.type", mail_type)
    if since:
        query = query.gte("created_at", since.isoformat())
    return query


def _rows(query: Any) -> list[dict[str, Any]]:
    return list(query.execute().data)


def _with_type(row: dict[str, Any]) -> dict[str, Any]:
    """The type of the mail beside its columns, not in an object of its template."""
    template = row.pop("email_templates")
    return row | {"type": template["type"] if template else None}
