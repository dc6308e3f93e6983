"""`dtf operations`: look at the queue and at what became of operations, cancel one, and do what was set aside."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.errors import CommandError
from cli.output import AsJson, done, print_facts, print_json, print_rows, readable_errors
from cli.project import answers, call, connect, find_user

app = typer.Typer(help="Look at image operations, cancel one, and do what was set aside.", no_args_is_help=True)

Operation = Annotated[UUID, typer.Argument(metavar="OPERATION", help="Id: dtf operations list.")]

COLUMNS = {
    "operation_type": "Operation",
    "status": "Status",
    "email": "User",
    "id": "Id",
    "created_at": "Requested",
    "credits_used": "Credits",
    "error_message": "Error",
}


class Status(StrEnum):
    """Where an operation may be."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command("list")
def list_operations(
    status: Annotated[Status | None, typer.Option(help="Only those.")] = None,
    user: Annotated[str | None, typer.Option(help="Only those of this user: id or e-mail address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List operations, the newest first."""
    with readable_errors(), answers():
        client = connect()
        query = client.table("image_operations").select("*, profiles(email)").order("created_at", desc=True)
        if status:
            query = query.eq("status", status)
        if user:
            query = query.eq("user_id", find_user(client, user)["id"])
        rows: Any = query.limit(limit).execute().data
    if as_json:
        print_json(rows)
    else:
        print_rows([row | {"email": row["profiles"]["email"]} for row in rows], COLUMNS)


@app.command()
def show(operation: Operation, as_json: AsJson = False) -> None:
    """Show one operation with everything that is known of it."""
    with readable_errors(), answers():
        rows: Any = connect().table("image_operations").select("*").eq("id", str(operation)).execute().data
        if not rows:
            raise CommandError(f"There is no operation {operation}. List them with: dtf operations list")
    if as_json:
        print_json(rows[0])
    else:
        print_facts(rows[0])


@app.command()
def cancel(
    operation: Operation,
    reason: Annotated[str, typer.Option(help="Why; the user reads it, and it stays in admin_logs.")],
    as_json: AsJson = False,
) -> None:
    """Cancel an unfinished operation; its credits go back to where they came from."""
    with readable_errors():
        row = call(connect(), "admin_cancel_image_operation", operation_id=str(operation), reason=reason)
    if as_json:
        print_json(row)
    else:
        done(f"Cancelled; {row['credits_refunded']} credits went back.")


ASIDE = {"task": "Task", "row_id": "Row", "user_id": "User", "set_aside_at": "Since", "reason": "Reason"}


@app.command()
def aside(limit: Annotated[int, typer.Option(min=1, max=1000)] = 50, as_json: AsJson = False) -> None:
    """List what could not be done, of operations and of all else that is done by the clock, and why.

    Such a row stops itself alone. Mend what is wrong with it, then: dtf operations retry
    """
    with readable_errors(), answers():
        query = connect().table("set_aside_rows").select("*").order("set_aside_at")
        rows: Any = query.limit(limit).execute().data
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, ASIDE)


@app.command()
def retry(
    row: Annotated[str | None, typer.Argument(help="Id, of dtf operations aside. Default: all of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Do what was set aside, now that it is mended. Status 1 where it still cannot be done."""
    with readable_errors():
        left = call(connect(), "retry_set_aside_rows", row_id=row)
    if as_json:
        print_json(left)
    elif left:
        print_rows(left, {name: ASIDE[name] for name in ("task", "row_id", "reason")})
    else:
        done("Nothing is set aside any more." if row is None else "Done.")
    if left:
        raise typer.Exit(1)
