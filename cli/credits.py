"""`dtf credits`: look at the ledger, prove it, and correct it by new entries."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import User, moment
from cli.output import AsJson, console, done, print_facts, print_json, print_rows, readable_errors
from cli.project import answers, call, connect, find_user

app = typer.Typer(help="Look at the ledger, prove it, and correct it by new entries.", no_args_is_help=True)

Amount = Annotated[int, typer.Argument(min=1, help="Credits.")]
Reason = Annotated[str, typer.Option(help="Why; the user reads it as the description.")]
Key = Annotated[str | None, typer.Option(help="Idempotency key: the same request again changes nothing.")]

GRANT_COLUMNS = {
    "source": "Grant",
    "amount": "Credits",
    "remaining": "Left",
    "expires_at": "Expires",
    "created_at": "Since",
    "id": "Id",
}
ENTRY_COLUMNS = {
    "seq": "#",
    "transaction_type": "Entry",
    "change": "Change",
    "balance_after": "Balance",
    "description": "Description",
    "created_at": "When",
    "id": "Id",
}


@app.command()
def show(
    who: User,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Newest entries to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show an account's balance, what is left of its grants, and its newest entries."""
    with readable_errors(), answers():
        client = connect()
        profile = find_user(client, who)
        grants: Any = (
            client.table("credit_grants")
            .select("*")
            .eq("user_id", profile["id"])
            .eq("is_spent", False)
            .order("seq")
            .execute()
            .data
        )
        entries: Any = (
            client.table("credit_transactions")
            .select("*")
            .eq("user_id", profile["id"])
            .order("seq", desc=True)
            .limit(limit)
            .execute()
            .data
        )
    balance = {
        key: profile[key]
        for key in ("email", "credits_remaining", "credit_debt", "total_credits_purchased", "total_credits_used")
    }
    if as_json:
        print_json(balance | {"grants": grants, "entries": entries})
        return
    print_facts(balance)
    console.print()
    print_rows(grants, GRANT_COLUMNS)
    console.print()
    changes = [entry | {"change": f"{entry['balance_after'] - entry['balance_before']:+d}"} for entry in entries]
    print_rows(changes, ENTRY_COLUMNS)


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Prove the whole ledger. Status 1 where anything is violated."""
    with readable_errors():
        violations: Any = call(connect(), "verify_ledger")
    if as_json:
        print_json(violations)
    elif violations:
        print_rows(violations, {"user_id": "User", "invariant": "Violated", "detail": "Detail"})
    else:
        done("The ledger is sound.")
    if violations:
        raise typer.Exit(1)


@app.command()
def expire(as_json: AsJson = False) -> None:
    """End the grants whose time has come. Safe at any time."""
    with readable_errors():
        client = connect()
        expired: list[Any] = []
        while batch := call(client, "expire_credits"):
            expired += batch
    if as_json:
        print_json(expired)
    else:
        done(f"{sum(row['credits'] for row in expired)} credits of {len(expired)} accounts expired.")


@app.command()
def grant(
    who: User,
    amount: Amount,
    reason: Reason,
    expires: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="When they expire, UTC. Default: never.")
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give credits."""
    with readable_errors():
        client = connect()
        made = call(
            client,
            "admin_adjust_credits",
            user_id=find_user(client, who)["id"],
            amount=amount,
            reason=reason,
            expires_at=expires and expires.isoformat(),
            idempotency_key=key,
        )
    if as_json:
        print_json(made)
    else:
        done(f"Gave {amount} credits to {who}.")


@app.command()
def deduct(who: User, amount: Amount, reason: Reason, key: Key = None, as_json: AsJson = False) -> None:
    """Take credits; written as an expiration, because nothing was delivered for them."""
    with readable_errors():
        client = connect()
        balance = call(
            client,
            "admin_adjust_credits",
            user_id=find_user(client, who)["id"],
            amount=-amount,
            reason=reason,
            idempotency_key=key,
        )["balance_after"]
    if as_json:
        print_json({"balance": balance})
    else:
        done(f"Took {amount} credits from {who}; {balance} are left.")


@app.command()
def refund(
    transaction: Annotated[UUID, typer.Argument(help="Id of the usage entry: dtf credits show.")],
    reason: Reason,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give the credits of a usage entry back to where they came from."""
    with readable_errors():
        entry = call(
            connect(),
            "admin_refund_transaction",
            transaction_id=str(transaction),
            reason=reason,
            idempotency_key=key,
        )
    if as_json:
        print_json(entry)
    else:
        done(f"Gave {entry['amount']} credits back; the balance is {entry['balance_after']}.")
