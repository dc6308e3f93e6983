"""`dtf email templates`, `preview` and `test`: templates are looked at before people get them."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cli.project import email_settings
from local.stack import StackStatus
from tests.database.personas import Connection
from tests.e2e.test_operator import Operator


@pytest.fixture(scope="module")
def dtf(stack: StackStatus) -> Operator:
    operator = Operator(stack)
    operator.environment |= email_settings(stack, "8081")
    return operator


@pytest.fixture
def template(db: Connection) -> Iterator[str]:
    """A campaign's template; its text is the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    db.execute(
        "insert into public.email_templates (name, type, subject, html_content) values (%s, 'campaign', 'S', 'x')",
        (name,),
    )
    yield name
    db.execute("delete from public.email_templates where name = %s", (name,))


def test_every_template_that_comes_with_the_project_is_sound(dtf: Operator) -> None:
    found = dtf.json("email", "templates")
    assert found["missing"] == []
    assert {row["name"]: row["problems"] for row in found["templates"] if row["problems"]} == {}
    assert {"welcome", "receipt", "newsletter"} <= {row["name"] for row in found["templates"]}


def test_a_template_whose_links_lead_nowhere_is_a_problem(dtf: Operator, db: Connection, template: str) -> None:
    link = '<p><a href="/#/credits">Here</a></p>'
    db.execute("update public.email_templates set html_content = %s where name = %s", (link, template))
    rows = {row["name"]: row for row in dtf.json("email", "templates", status=1)["templates"]}
    assert rows[template]["problems"] == ["links that lead nowhere from a mail: '/#/credits'"]


def test_a_preview_is_html_text_and_three_pictures(dtf: Operator, tmp_path: Path) -> None:
    told = dtf.json("email", "preview", "welcome", "--data", '{"first_name": "Grace"}', "--output", str(tmp_path))
    assert told["subject"] == "Welcome to DTF Editor"
    assert "Welcome, Grace" in (tmp_path / "welcome.html").read_text()
    assert (tmp_path / "welcome.txt").read_text().startswith("Subject: Welcome to DTF Editor\n\nWelcome, Grace\n")
    corners = {}
    for name, width in (("light", 1360), ("dark", 1360), ("phone", 750)):
        with Image.open(tmp_path / f"welcome-{name}.png") as picture:
            assert picture.width == width
            assert len(set(picture.convert("RGB").resize((64, 64)).get_flattened_data())) > 10, "it is not empty"
            corners[name] = picture.convert("L").tobytes()[0]
    assert corners["dark"] < 50 < 200 < corners["light"]
    assert sorted(told["files"]) == sorted(str(file) for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "There is no template nobody"),
        (("welcome", "--data", "{"), "no JSON"),
        (("welcome", "--data", "[]"), "must be an object"),
        (("welcome", "--data", '{"plan": "x"}'), "welcome has no variable plan. It has: app_url, credits"),
        (("subscription_started", "--data", '{"is_trial": "yes"}'), "is_trial must be true or false"),
    ],
)
def test_what_a_preview_cannot_use_is_said(dtf: Operator, arguments: tuple[str, ...], message: str) -> None:
    assert message in dtf.run("email", "preview", *arguments, status=1).stderr.replace("\n", " ")


def test_a_test_mail_comes_marked_and_past_the_outbox(dtf: Operator, stack: StackStatus, db: Connection) -> None:
    to = f"{uuid.uuid4().hex}@example.com"
    dtf.run("email", "test", "newsletter", "--to", to, "--data", json.dumps({"first_name": "Grace"}))
    [found] = httpx.get(f"{stack.mail_url}/api/v1/search", params={"query": f"to:{to}"}).json()["messages"]
    assert found["Subject"] == "[Test] Print sharper: three tips for your next transfer"
    mail = httpx.get(f"{stack.mail_url}/api/v1/message/{found['ID']}").json()
    assert "Grace, a good print" in mail["HTML"]
    assert "Grace, a good print" in mail["Text"]
    assert db.execute("select from public.email_logs where recipient = %s", (to,)).fetchall() == []


def test_a_test_mail_needs_an_address(dtf: Operator) -> None:
    assert "no e-mail address" in dtf.run("email", "test", "welcome", "--to", "ada", status=1).stderr
