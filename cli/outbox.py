"""`dtf email list`, `show`, `retry` and `suppressions`: what became of each mail, and who gets none."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.local.errors import StackError
from cli.output import AsJson, console, done, print_facts, print_json, print_rows, readable_errors
from cli.project import answers, call, connect, containing

suppressions = typer.Typer(help="Addresses that get essential mails only.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(min=1, max=1000, help="Newest rows to show.")]
Mail = Annotated[UUID, typer.Argument(help="Id of the mail: dtf email list.")]
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


def list_emails(
    status: Annotated[list[Status] | None, typer.Option(help="Only these; may be repeated.")] = None,
    mail_type: Annotated[str | None, typer.Option("--type", help="Such as receipt.")] = None,
    to: Annotated[str, typer.Option(help="Part of the address.")] = "",
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List mails, the newest first."""
    with readable_errors(), answers():
        join = "email_templates!inner(type)" if mail_type else "email_templates(type)"
        query = connect().table("email_logs").select(f"*, {join}").order("created_at", desc=True).limit(limit)
        if status:
            query = query.in_("status", [str(one) for one in status])
        if mail_type:
            query = query.eq("email_templates.type", mail_type)
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
            raise StackError(f"There is no mail {email}. See: dtf email list")
    mail = _with_type(found[0])
    if as_json:
        print_json(mail | {"events": events})
        return
    print_facts(mail)
    console.print()
    print_rows(events, EVENT_COLUMNS)


def retry(
    email: Mail,
    reason: Annotated[str, typer.Option(help="Why; it stays in admin_logs.")],
    as_json: AsJson = False,
) -> None:
    """Queue a mail again that failed, was suppressed, or of which nobody knows whether it was sent.

    One that is unknown may have been accepted: look into the provider's own log first, or it comes twice.
    """
    with readable_errors():
        row = call(connect(), "retry_email", email_id=str(email), reason=reason)
    if as_json:
        print_json(row)
    else:
        done(f"Queued the mail {email} again.")


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
            raise StackError(f"{address} is not suppressed. See: dtf email suppressions list")
    done(f"Lifted: {', '.join(row['reason'] for row in lifted)}.")


def _rows(query: Any) -> list[dict[str, Any]]:
    return list(query.execute().data)


def _with_type(row: dict[str, Any]) -> dict[str, Any]:
    """The type of the mail beside its columns, not in an object of its template."""
    template = row.pop("email_templates")
    return row | {"type": template["type"] if template else None}
