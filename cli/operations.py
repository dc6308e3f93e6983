"""`dtf operations`: look at the queue and at what became of operations, and cancel one."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.local.errors import StackError
from cli.output import AsJson, done, print_facts, print_json, print_rows, readable_errors
from cli.project import answers, call, connect, find_user

app = typer.Typer(help="Look at image operations, and cancel one.", no_args_is_help=True)

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
            raise StackError(f"There is no operation {operation}. List them with: dtf operations list")
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
