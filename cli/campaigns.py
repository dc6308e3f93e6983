"""`dtf email campaign`: one mail to many people, from the draft to the report."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.arguments import moment
from cli.errors import CommandError
from cli.output import AsJson, done, print_facts, print_json, print_rows, readable_errors
from cli.project import answers, call, connect

if TYPE_CHECKING:
    from supabase import Client

app = typer.Typer(help="One mail to many people: draft, plan, schedule, send, cancel, report.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Id, or its name where no other has it.")]

NAMESAKES = 10
"""How many campaigns of one name are told of."""

LIST_COLUMNS = {
    "name": "Name",
    "template": "Template",
    "status": "Status",
    "scheduled_at": "Scheduled",
    "started_at": "Started",
    "sent_at": "Completed",
    "id": "Id",
}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called here; nobody else reads it.")],
    template: Annotated[str, typer.Option(help="Name of a template whose type is campaign.")],
    audience: Annotated[
        str | None, typer.Option(metavar="JSON", help="Who gets it, see docs/email.md. Default: everybody.")
    ] = None,
    per_minute: Annotated[int, typer.Option(min=1, max=100_000, help="Mails a minute, at most.")] = 600,
    as_json: AsJson = False,
) -> None:
    """Write a draft. Nothing is sent."""
    try:
        target_audience = None if audience is None else json.loads(audience)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"This is no JSON: {error}", param_hint="--audience") from error
    with readable_errors(), answers():
        client = connect()
        templates: Any = client.table("email_templates").select("id").eq("name", template).execute().data
        if not templates:
            raise CommandError(f"There is no template {template}.")
        draft = {
            "name": name,
            "template_id": templates[0]["id"],
            "target_audience": target_audience,
            "emails_per_minute": per_minute,
        }
        rows: Any = client.table("email_campaigns").insert(draft).execute().data
    if as_json:
        print_json(rows[0])
    else:
        done(f"Wrote the draft {name}, id {rows[0]['id']}. Next: dtf email campaign plan {rows[0]['id']}")


@app.command("list")
def list_campaigns(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List campaigns, the newest first."""
    with readable_errors(), answers():
        query = connect().table("email_campaigns").select("*, email_templates(name)")
        rows: Any = query.order("created_at", desc=True).limit(limit).execute().data
    rows = [row | {"template": (row.pop("email_templates") or {}).get("name")} for row in rows]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, LIST_COLUMNS)


@app.command()
def plan(which: Which, as_json: AsJson = False) -> None:
    """Tell whom a campaign would reach now, and how long that takes."""
    with readable_errors():
        client = connect()
        campaign = find_campaign(client, which)
        preview = reach(client, campaign)
    if as_json:
        print_json(preview)
        return
    hours, minutes = divmod(preview["minutes"], 60)
    print_facts(
        {"Campaign": campaign["name"], "Status": campaign["status"], "Audience": preview["audience"]}
        | {f"  not sent: {reason}": people for reason, people in sorted(preview["excluded"].items())}
        | {
            "Recipients": preview["recipients"],
            "Such as": ", ".join(preview["sample"]),
            "Takes": f"{hours} h {minutes:02} min at {campaign['emails_per_minute']} mails a minute",
        }
    )


@app.command()
def schedule(
    which: Which,
    at: Annotated[
        datetime,
        typer.Option(parser=moment, metavar="TIME", help="When to start, UTC."),
    ],
    as_json: AsJson = False,
) -> None:
    """Have a campaign start at a time, or at another time than before."""
    with readable_errors():
        client = connect()
        campaign = find_campaign(client, which)
        check_template(client, campaign)
        row = call(client, "schedule_email_campaign", campaign_id=campaign["id"], at=at.isoformat())
    if as_json:
        print_json(row)
    else:
        done(f"{campaign['name']} starts on {at:%Y-%m-%d} at {at:%H:%M} UTC, where `dtf run email` runs.")


@app.command()
def send(
    which: Which,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a campaign now."""
    with readable_errors():
        client = connect()
        campaign = find_campaign(client, which)
        check_template(client, campaign)
        if not yes:
            people = reach(client, campaign)["recipients"]
            typer.confirm(f"Send {campaign['name']} to {people} people?", abort=True, err=True)
        row = call(client, "schedule_email_campaign", campaign_id=campaign["id"])
    if as_json:
        print_json(row)
    else:
        done(f"{campaign['name']} goes out as soon as `dtf run email` runs.")


@app.command()
def cancel(which: Which, as_json: AsJson = False) -> None:
    """End a campaign for good; what is not sent yet is not sent any more."""
    with readable_errors():
        client = connect()
        row = call(client, "cancel_email_campaign", campaign_id=find_campaign(client, which)["id"])
    if as_json:
        print_json(row)
    else:
        done(f"{row['name']} is cancelled.")


@app.command()
def report(which: Which, as_json: AsJson = False) -> None:
    """Tell how far the mails of a campaign got."""
    with readable_errors():
        client = connect()
        (row,) = call(client, "email_campaign_report", campaign_id=find_campaign(client, which)["id"])
    if as_json:
        print_json(row)
        return
    rates = {"delivered": "delivery", "bounced": "bounce", "opened": "open", "clicked": "click"}
    counts = {key: count for key, count in row.items() if isinstance(count, int) and (count or key == "sent")}
    shares = {key: row[f"{rates[key]}_rate"] for key in counts if key in rates}
    print_facts(
        {"status": row["campaign_status"]}
        | {
            key.replace("_", " "): f"{count} ({shares[key]:.1%})" if shares.get(key) is not None else count
            for key, count in counts.items()
        }
    )


def find_campaign(client: Client, which: str) -> dict[str, Any]:
    """The campaign of this id or, where only one has it, of this name. Raises CommandError."""
    try:
        column, value = "id", str(UUID(which))
    except ValueError:
        column, value = "name", which
    with answers():
        query = client.table("email_campaigns").select("*").eq(column, value).order("created_at", desc=True)
        rows: Any = query.limit(NAMESAKES).execute().data
    if not rows:
        raise CommandError(f"There is no campaign {which}. See: dtf email campaign list")
    if len(rows) > 1:
        ids = ", ".join(f"{row['id']} ({row['status']})" for row in rows)
        raise CommandError(f"Several campaigns are called {which}. Name one by its id, the newest first: {ids}")
    found: dict[str, Any] = rows[0]
    return found


def check_template(client: Client, campaign: dict[str, Any]) -> None:
    """Make the mail with sample data: each of its recipients' would fail. Raises CommandError."""
    from cli import sample_mails

    with answers():
        query = client.table("email_templates").select("*, email_types(*)").eq("id", campaign["template_id"])
        rows: Any = query.execute().data
    for row in rows:
        if problems := sample_mails.problems(row):
            raise CommandError(
                f"{row['name']}: {'; '.join(problems)}. Change it, and see: dtf email preview {row['name']}"
            )


def reach(client: Client, campaign: dict[str, Any]) -> dict[str, Any]:
    """Whom a campaign would reach, and the minutes that it takes."""
    (preview,) = call(client, "preview_email_campaign", campaign_id=campaign["id"])
    minutes = -(-preview["recipients"] // campaign["emails_per_minute"])
    return dict(preview) | {"minutes": minutes}
