"""`dtf users`: look at accounts, change their rights, comp their plans, hand their data out, and delete them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.arguments import User
from cli.errors import CommandError
from cli.output import AsJson, done, errors, print_facts, print_json, print_rows, readable_errors
from cli.project import RefusedError, answers, call, connect, containing, count, counted, find_user, remove_objects
from local.state import write_private

if TYPE_CHECKING:
    from supabase import Client

app = typer.Typer(
    help="Look at accounts, change rights, comp plans, hand data out, delete accounts.", no_args_is_help=True
)

Reason = Annotated[str, typer.Option(help="Why; it stays in admin_logs.")]

LIST_COLUMNS = {
    "email": "E-mail",
    "credits_remaining": "Credits",
    "subscription_status": "Plan",
    "is_active": "Active",
    "is_admin": "Admin",
    "last_activity_at": "Last activity",
    "created_at": "Since",
    "id": "Id",
}


@app.command("list")
def list_users(
    search: Annotated[str, typer.Option(help="Part of the e-mail address.")] = "",
    admins: Annotated[bool, typer.Option("--admins", help="Admins only.")] = False,
    inactive: Annotated[bool, typer.Option("--inactive", help="Deactivated accounts only.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List accounts, the newest first."""
    with readable_errors(), answers():
        query = connect().table("profiles").select("*").order("created_at", desc=True).limit(limit)
        if search:
            query = query.ilike("email", containing(search))
        if admins:
            query = query.eq("is_admin", True)
        if inactive:
            query = query.eq("is_active", False)
        rows: Any = query.execute().data
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, LIST_COLUMNS)


@app.command()
def show(who: User, as_json: AsJson = False) -> None:
    """Show one account, how much it holds and how much it has uploaded."""
    with readable_errors():
        client = connect()
        profile = find_user(client, who)
        counts = {
            table: count(counted(client, table).eq("user_id", profile["id"]))
            for table in ("images", "image_operations", "image_collections")
        }
        (uploads,) = call(client, "user_upload_usage", user_id=profile["id"])
    if as_json:
        print_json(profile | {"counts": counts, "uploads": uploads})
        return
    used, most = (uploads[name] / 1024**3 for name in ("used_bytes", "limit_bytes"))
    facts = {table.replace("_", " "): number for table, number in counts.items()}
    print_facts(profile | facts | {"uploads": f"{used:.2f} of {most:g} GB"})


@app.command()
def export(
    who: User,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write, for its owner only.")] = None,
) -> None:
    """Print everything about an account as JSON, for a person who asks for his data."""
    with readable_errors():
        client = connect()
        data = call(client, "export_user_account", user_id=find_user(client, who)["id"])
    if output is None:
        print_json(data)
        return
    write_private(output, json.dumps(data, indent=2, ensure_ascii=False))
    done(f"Wrote {output}. The files themselves are in storage; see its key objects.")


@app.command()
def activate(who: User, reason: Reason) -> None:
    """Let a deactivated account work again."""
    change_right(who, "admin_set_user_active", reason, is_active=True)
    done(f"{who} is active.")


@app.command()
def deactivate(who: User, reason: Reason) -> None:
    """Let an account read and delete what it has, and start nothing."""
    change_right(who, "admin_set_user_active", reason, is_active=False)
    done(f"{who} is deactivated.")


@app.command()
def promote(who: User, reason: Reason) -> None:
    """Make somebody an admin."""
    change_right(who, "admin_set_user_admin", reason, is_admin=True)
    done(f"{who} is an admin.")


@app.command()
def demote(who: User, reason: Reason) -> None:
    """Take an admin's rights back."""
    change_right(who, "admin_set_user_admin", reason, is_admin=False)
    done(f"{who} is no admin.")


def change_right(who: str, function: str, reason: str, **right: bool) -> None:
    """Change a right of an account by a function that logs the reason."""
    with readable_errors():
        client = connect()
        call(client, function, user_id=find_user(client, who)["id"], reason=reason, **right)


@app.command()
def comp(
    who: User,
    plan: Annotated[str, typer.Argument(help="Name of a paid plan.")],
    reason: Reason,
    months: Annotated[int, typer.Option(min=1, max=24, help="For how long.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Give a plan for some months, with its credits, to somebody who has none."""
    with readable_errors():
        client = connect()
        row = call(
            client,
            "admin_comp_subscription",
            user_id=find_user(client, who)["id"],
            plan=plan,
            months=months,
            reason=reason,
        )
    if as_json:
        print_json(row)
    else:
        done(f"{who} has the plan {plan} until {row['ended_at'][:10]}.")


@app.command()
def delete(
    who: User,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an account: its files, then its rows. There is no way back."""
    with readable_errors():
        client = connect()
        profile = find_user(client, who)
        if not yes:
            typer.confirm(f"Delete {profile['email']} with everything that belongs to it?", abort=True, err=True)
        with errors.status("Removing files") as spinner:
            removed = 0
            while keys := keys_in_the_way(client, profile["id"], reason):
                if not remove_objects(keys):
                    raise CommandError(f"Storage removed nothing of {len(keys)} files. The account stays.")
                removed += len(keys)
                spinner.update(f"Removing files: {removed}")
    done(f"Deleted {profile['email']} and {removed} files.")


def keys_in_the_way(client: Client, user_id: str, reason: str) -> list[str]:
    """Try to delete the account; none when it is gone, else the first objects (bucket/key) that have to go before."""
    try:
        call(client, "delete_user_account", user_id=user_id, reason=reason)
    except RefusedError as error:
        if keys := error.detail.get("first_keys"):
            return [str(key) for key in keys]
        raise
    return []
