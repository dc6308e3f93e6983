"""From the queue to SendGrid and back, through one process: what it sends is what events and people answer to."""

from collections.abc import Callable
from typing import Any

import httpx
from psycopg.types.json import Jsonb

from tests.database.personas import Connection, People, Person
from tests.e2e.worker_process import until
from tests.email.conftest import Post
from tests.email.email_process import EmailProcess
from tests.email.sendgrid_double import SendGridDouble
from tests.email.signer import Signer, event

Run = Callable[..., EmailProcess]


def deliver(service: EmailProcess, signer: Signer, *events: dict[str, Any]) -> httpx.Response:
    body, headers = signer.deliver(*events)
    return httpx.post(f"{service.url}/webhooks/sendgrid", content=body, headers=headers)


def test_an_event_finds_the_mail_by_what_was_sent_along(
    people: People, post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    signer, person = Signer(), people.new()
    mail = post.welcome(person)
    service = run(SENDGRID_WEBHOOK_PUBLIC_KEY=signer.public_key)
    until(lambda: post.row(mail)["status"] == "sent")
    (sent,) = sendgrid.sent_to(str(person.email))
    answer = deliver(service, signer, event("delivered", **sent["custom_args"]), event("open", **sent["custom_args"]))
    assert (answer.status_code, answer.json()["recorded"]) == (200, 2)
    assert post.row(mail)["status"] == "opened"
    figures = httpx.get(f"{service.url}/metrics").text
    assert 'dtf_email_events_total{outcome="recorded"} 2.0' in figures


def campaign_to(db: Connection, people: People, person: Person) -> None:
    """News to a single person, at once and to the end."""
    balance = people.balance(person)
    row = db.execute(
        """
        with template as (
            insert into public.email_templates (name, subject, html_content)
            values (gen_random_uuid(), 'News', '<p>Something is new.</p>')
            returning id
        )
        insert into public.email_campaigns (name, template_id, target_audience)
        select 'News', id, %s from template
        returning id
        """,
        (Jsonb({"credits": {"min": balance, "max": balance}}),),
    ).fetchone()
    assert row is not None
    people.service.call("schedule_email_campaign", p_campaign_id=row["id"])
    done = "select from public.email_campaigns where id = %s and status = 'completed'"
    until(lambda: row is not None and db.execute(done, (row["id"],)).fetchall())


def test_the_link_of_a_campaigns_mail_ends_campaigns_for_its_reader(
    db: Connection, people: People, post: Post, sendgrid: SendGridDouble, run: Run
) -> None:
    person = people.new(credits=76543)
    run()
    campaign_to(db, people, person)
    until(lambda: sendgrid.sent_to(str(person.email)))
    (sent,) = sendgrid.sent_to(str(person.email))
    assert sent["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = sent["headers"]["List-Unsubscribe"].strip("<>")
    assert all(link in part["value"] for part in sent["content"])
    assert httpx.post(link, data={"List-Unsubscribe": "One-Click"}).status_code == 200

    campaign_to(db, people, person)
    welcome = post.welcome(person)
    until(lambda: post.row(welcome)["status"] == "sent")
    assert [mail["categories"] for mail in sendgrid.sent_to(str(person.email))] == [["campaign"], ["welcome"]]
