"""`dtf email campaign`: the manual's commands one after the other, with a sender that empties the outbox between."""

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from supabase import Client
from typer.testing import CliRunner, Result

from cli.main import app
from local.stack import StackStatus
from tests.e2e.manual import manual
from tests.e2e.people import operator, sign_up


class Operator:
    """Runs `dtf email campaign` with the project's secret key."""

    def __init__(self, stack: StackStatus) -> None:
        self._environment = {"SUPABASE_URL": stack.api_url, "SUPABASE_SECRET_KEY": stack.secret_key, "COLUMNS": "250"}

    def run(self, *arguments: str, status: int = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, ("email", "campaign", *arguments), env=self._environment, input=answer)
        assert result.exit_code == status, result.output + str(result.exception)
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture
def dtf(stack: StackStatus) -> Iterator[Operator]:
    """No campaign of another test is there."""
    _remove_campaigns(stack)
    yield Operator(stack)
    _remove_campaigns(stack)


def _remove_campaigns(stack: StackStatus) -> None:
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        connection.execute("delete from public.email_logs where campaign_id is not null")
        connection.execute("delete from public.email_campaigns")


@pytest.fixture
def api(stack: StackStatus) -> Client:
    return operator(stack)


def expand(api: Client) -> None:
    """What the sender does with campaigns that are due."""
    while api.rpc("expand_email_campaigns", {}).execute().data:
        pass


def manual_commands() -> list[list[str]]:
    """The arguments of each command in the manual's example, after `dtf email campaign`."""
    text = manual().replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"^\.venv/bin/dtf email campaign .*", text, re.M)
    ]
    return [command[3:] for command in commands]


def test_a_campaign_lives_as_the_manual_says(dtf: Operator, stack: StackStatus, api: Client) -> None:
    people = [sign_up(stack) for _ in range(3)]
    create, plan, schedule, send, report, cancel = manual_commands()
    dtf.run(*create)
    shown = dtf.run(*plan).stdout
    assert "Recipients" in shown
    reached = dtf.json(*plan)
    assert reached["recipients"] >= len(people)
    when = datetime.now(UTC) + timedelta(days=1)
    late = dtf.run(*schedule[:-1], "2020-01-01T09:00", status=1).stderr
    assert "2020-01-01 09:00:00 is past" in late
    assert dtf.json("list")[0]["status"] == "draft"
    assert f"{when:%Y-%m-%d}" in dtf.run(*schedule[:-1], when.isoformat()).stderr
    assert dtf.json("list")[0]["status"] == "scheduled"
    dtf.run(*send, answer="n\n", status=1)
    assert f"to {reached['recipients']} people?" in dtf.run(*send, answer="y\n").stderr
    expand(api)
    assert dtf.json(*report)["queued"] == reached["recipients"]
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        connection.execute(
            "update public.email_logs set status = 'delivered', sent_at = now(), delivered_at = now()"
            " where campaign_id is not null and user_id = %s",
            (people[0].id,),
        )
    assert "1 (100.0%)" in dtf.run(*report).stdout
    dtf.run(*cancel)
    counts = dtf.json(*report)
    assert (counts["campaign_status"], counts["cancelled"]) == ("cancelled", reached["recipients"] - 1)
    assert "cancelled already" in dtf.run(*send, "--yes", status=1).stderr


def test_a_mail_that_would_fail_for_everybody_is_not_scheduled(dtf: Operator, stack: StackStatus) -> None:
    name = f"long-{uuid.uuid4().hex[:8]}"
    with psycopg.connect(stack.db_url, autocommit=True) as connection:
        connection.execute(
            "insert into public.email_templates (name, type, subject, html_content) values (%s, 'campaign', 'S', %s)",
            (name, "<p>shirt</p>" * 2800),
        )
        dtf.run("create", "Sale", "--template", name)
        for command in (("schedule", "Sale", "--at", "2099-01-01"), ("send", "Sale", "--yes")):
            assert f"{name}: too long: " in dtf.run(*command, status=1).stderr
        assert dtf.json("list")[0]["status"] == "draft"
        connection.execute("delete from public.email_campaigns")
        connection.execute("delete from public.email_templates where name = %s", (name,))


def test_a_bad_draft_is_one_sentence(dtf: Operator) -> None:
    template = ("--template", "newsletter")
    assert "no template nothing" in dtf.run("create", "x", "--template", "nothing", status=1).stderr
    assert "This is no JSON" in dtf.run("create", "x", *template, "--audience", "{", status=2).stderr
    refused = dtf.run("create", "x", *template, "--audience", '{"credits": {"least": 5}}', status=1).stderr
    assert "target_audience.credits has an unknown key: least" in refused
    assert dtf.json("list") == []


def test_a_campaign_is_named_by_its_id_where_two_share_a_name(dtf: Operator) -> None:
    first, second = (dtf.json("create", "Sale", "--template", "newsletter") for _ in range(2))
    refused = dtf.run("plan", "Sale", status=1).stderr
    assert "Several campaigns are called Sale" in refused
    assert f"{second['id']} (draft), {first['id']} (draft)" in refused
    assert dtf.json("report", first["id"])["mails"] == 0
    assert "There is no campaign" in dtf.run("plan", str(uuid.uuid4()), status=1).stderr
