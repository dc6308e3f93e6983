"""Mails made of templates and sample data: filled in, checked, written to files with pictures, sent as a test."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from supabase import Client

from cli.errors import CommandError
from cli.output import errors
from cli.project import answers
from local import packages
from services.email.mails import compose
from services.email.outbox import ClaimedEmail, Outcome
from services.email.rendering import Content, Letterhead, Rendered, RenderingError, links, render
from services.email.senders import CLIPPED_BYTES, html_bytes, make_sender
from services.email.settings import EmailSettings
from services.settings import SettingsError, load

TEST_MARK = "[Test] "
NOBODY = UUID(int=0)
"""Whom the link in a test mail unsubscribes."""


def find_template(client: Client, name: str) -> dict[str, Any]:
    """The row of a template, with its type in `email_types`. Raises CommandError."""
    with answers():
        rows: Any = client.table("email_templates").select("*, email_types(*)").eq("name", name).execute().data
    if not rows:
        raise CommandError(f"There is no template {name}. See: dtf email templates")
    found: dict[str, Any] = rows[0]
    return found


def sample(row: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """The sample data of a template's type, with the values of a JSON object instead where it has some."""
    known: dict[str, Any] = row["email_types"]["sample_data"]
    try:
        given = json.loads(data or "{}")
    except json.JSONDecodeError as error:
        raise CommandError(f"--data is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise CommandError('--data must be an object, such as {"first_name": "Ada"}')
    for key, value in given.items():
        if key not in known:
            raise CommandError(f"{row['type']} has no variable {key}. It has: {', '.join(sorted(known))}")
        if type(value) is not type(known[key]):
            kind = "true or false" if isinstance(known[key], bool) else "a text"
            raise CommandError(f"{key} must be {kind}, such as {json.dumps(known[key])}")
    return known | given


def fill(row: Mapping[str, Any], data: Mapping[str, Any]) -> Rendered:
    """The mail that a template becomes, under the letterhead that the environment names. Raises CommandError."""
    name, address = parseaddr(os.environ.get("EMAIL_FROM", "DTF Editor <hello@example.com>"))
    letterhead = Letterhead(name or address, os.environ.get("EMAIL_POSTAL_ADDRESS", ""))
    content = Content(row["email_types"]["category"], row["subject"], row["html_content"], row["text_content"])
    try:
        return render(content, data, letterhead)
    except RenderingError as error:
        raise CommandError(f"{row['name']}: {error}") from error


def problems(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with a template, filled in with its sample data and with each of its conditions the other way."""
    try:
        mails = [fill(row, data) for data in variants(row["email_types"]["sample_data"])]
    except CommandError as error:
        return [str(error).removeprefix(f"{row['name']}: ")]
    found = []
    if (size := max(html_bytes(mail.html) for mail in mails)) > CLIPPED_BYTES:
        found.append(f"too long: {size} bytes of HTML as it is sent, and Gmail clips it after {CLIPPED_BYTES}")
    if unreachable := sorted({link for mail in mails for link in links(mail.html) if not _is_reachable(link)}):
        found.append("links that lead nowhere from a mail: " + ", ".join(map(repr, unreachable)))
    return found


def variants(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The data as it is, then with each value the other way: true for false, and nothing for a text."""
    yield dict(data)
    for name, value in data.items():
        # There is no mail without these.
        if name not in ("email", "app_url", "unsubscribe_url"):
            yield {**data, name: not value if isinstance(value, bool) else ""}


def write(name: str, mail: Rendered, output: Path) -> list[Path]:
    """Write a mail and its pictures, with a bar on a terminal; returns the files. Raises CommandError."""
    packages.require()
    from cli.pictures import VIEWS, camera  # the browser is not in the image of the services

    pictures = {view: output / f"{name}-{view.name}.png" for view in VIEWS}
    texts = {output / f"{name}.html": mail.html, output / f"{name}.txt": f"Subject: {mail.subject}\n\n{mail.text}"}
    columns = (TextColumn("{task.description}"), BarColumn(16), MofNCompleteColumn())
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from error
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task("Taking pictures", total=len(pictures))
        with camera() as one:
            for view, path in pictures.items():
                one.take(mail.html, view, path)
                progress.advance(bar)
    return [*texts, *pictures.values()]


def send(row: Mapping[str, Any], values: Mapping[str, Any], to: str) -> tuple[str, str]:
    """Send the mail of a template to one address, past the outbox; tells who took it, and its subject.

    Needs the settings of the e-mail service. Raises CommandError.
    """
    try:
        settings = load(EmailSettings)
        sender = make_sender(settings)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    claimed = ClaimedEmail(
        id=uuid4(),
        user_id=NOBODY,
        recipient=to,
        category=row["email_types"]["category"],
        data=dict(values),
        **{key: row[key] for key in ClaimedEmail.model_fields.keys() & row.keys() - {"id"}},
    )
    try:
        mail = compose(claimed, settings)
        subject = f"{TEST_MARK}{mail.subject}"
        hand_over = sender.pack(replace(mail, type="test", subject=subject))
    except ValueError as error:  # of the template, or of what SMTP cannot carry
        raise CommandError(f"{row['name']}: {error}") from error
    answer = hand_over()
    if answer.outcome is not Outcome.SENT:
        raise CommandError(f"The mail was not accepted ({answer.outcome}): {answer.error}")
    smtp = settings.smtp_url and urlsplit(settings.smtp_url.get_secret_value())
    # The mailbox of the local stack takes every mail and delivers none.
    carrier = f"the mail server {smtp.hostname}:{smtp.port}" if smtp else "SendGrid"
    return carrier, subject


def _is_reachable(link: str) -> bool:
    parts = urlsplit(link)
    return parts.scheme == "mailto" or (parts.scheme in ("http", "https") and bool(parts.netloc))
