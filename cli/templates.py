"""`dtf email templates`, `preview` and `test`: the texts of the mails, looked at before people get them."""

from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import CommandError
from cli.output import AsJson, done, errors, plain, print_json, print_rows, readable_errors
from cli.project import answers, connect, take_project_from_stack

OUTPUT = Path("email-preview")
COLUMNS = {"name": "Name", "type": "Type", "category": "Category", "is_active": "Active", "problems": "Problems"}

Name = Annotated[str, typer.Argument(help="Name of the template: dtf email templates.")]
Data = Annotated[str | None, typer.Option(metavar="JSON", help="Values instead of the sample data of its type.")]


def templates(as_json: AsJson = False) -> None:
    """List the templates and render each with the sample data of its type; status 1 where one has a problem."""
    from cli import sample_mails

    with readable_errors(), answers():
        client = connect()
        types: Any = client.table("email_types").select("name, category").order("name").execute().data
        found: Any = client.table("email_templates").select("*, email_types(*)").order("name").execute().data
    rows = [
        {key: row[key] for key in ("name", "type", "subject", "is_active", "sendgrid_template_id")}
        | {"category": row["email_types"]["category"], "problems": sample_mails.problems(row)}
        for row in found
    ]
    missing = sorted({one["name"] for one in types if one["category"] != "marketing"} - {row["name"] for row in found})
    if as_json:
        print_json({"templates": rows, "missing": missing})
    else:
        print_rows([row | {"problems": "; ".join(row["problems"])} for row in rows], COLUMNS)
        for name in missing:
            errors.print(f"[yellow]![/yellow] {name} has no template: that mail is not sent.", highlight=False)
    if missing or any(row["problems"] for row in rows):
        raise typer.Exit(1)


def preview(
    name: Name,
    data: Data = None,
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = OUTPUT,
    as_json: AsJson = False,
) -> None:
    """Write a mail as HTML and text, with pictures of it: light, dark and on a phone.

    The name of EMAIL_FROM and EMAIL_POSTAL_ADDRESS stand in it as in the mails that are sent.
    """
    from cli import sample_mails

    with readable_errors():
        row = sample_mails.find_template(connect(), name)
        rendered = sample_mails.fill(row, sample_mails.sample(row, data))
        files = sample_mails.write(name, rendered, output)
    if as_json:
        print_json({"subject": rendered.subject, "files": [str(file) for file in files]})
        return
    done(f"Subject: {rendered.subject}")
    for file in files:
        typer.echo(file)
    _warn_of_sendgrid(row)


def send_test(
    name: Name,
    to: Annotated[str, typer.Option(help="Who gets it.")],
    data: Data = None,
) -> None:
    """Send a mail with sample data to one address, at once and past the outbox; its subject says that it is a test.

    Needs the settings of `dtf run email`.
    """
    from cli import sample_mails

    with readable_errors():
        if parseaddr(to)[1] != to or "@" not in to:
            raise CommandError(f"{to} is no e-mail address.")
        take_project_from_stack()
        row = sample_mails.find_template(connect(), name)
        carrier, subject = sample_mails.send(row, sample_mails.sample(row, data), to)
    done(f"Handed to {carrier} for {to}: {subject}")
    _warn_of_sendgrid(row)


def _warn_of_sendgrid(row: Mapping[str, Any]) -> None:
    if template_id := row["sendgrid_template_id"]:
        errors.print(
            f"[yellow]![/yellow] Through SendGrid its own template {plain(template_id)} is sent, with a subject of its"
            " own; this text goes out by SMTP.",
            highlight=False,
            soft_wrap=True,
        )
