"""A campaign to ten thousand people while the sender is killed: nobody gets it twice, and nobody is forgotten."""

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from services.email.sender import UNRECORDED_PER_SLOT
from tests.database.personas import Connection, People
from tests.e2e.worker_process import until
from tests.email.email_process import EmailProcess
from tests.email.sendgrid_double import SendGridDouble

PEOPLE = 10_000
SLOTS = 10
KILLED_AT = (PEOPLE // 5, PEOPLE // 2, PEOPLE * 4 // 5)


@pytest.fixture
def audience(db: Connection) -> Iterator[str]:
    """The plan that all these people have."""
    plan = uuid4().hex
    db.execute("insert into public.subscription_plans (name, is_active) values (%s, false)", (plan,))
    db.execute(
        "insert into auth.users (id, email, email_confirmed_at) "
        "select gen_random_uuid(), n || '@' || %s || '.example.test', now() from generate_series(1, %s) as n",
        (plan, PEOPLE),
    )
    db.execute("delete from public.email_logs where recipient like %s", (f"%@{plan}.example.test",))
    db.execute(
        "update public.profiles set subscription_plan = %s where email like %s", (plan, f"%@{plan}.example.test")
    )
    yield plan
    db.execute("delete from auth.users where email like %s", (f"%@{plan}.example.test",))


def start_campaign(db: Connection, people: People, plan: str) -> UUID:
    """Begin a campaign to the people of a plan, as fast as campaigns go."""
    row = db.execute(
        "with template as ("
        " insert into public.email_templates (name, type, subject, html_content)"
        " values (%s, 'campaign', 'News', '<p>Hello {{ first_name }}, you have {{ credits }}.</p>') returning id"
        ") insert into public.email_campaigns (name, template_id, target_audience, emails_per_minute)"
        " select 'News', id, %s, 100000 from template returning id",
        (f"news {plan}", Jsonb({"plan": [plan]})),
    ).fetchone()
    assert row is not None
    people.service.call("schedule_email_campaign", p_campaign_id=row["id"])
    campaign: UUID = row["id"]
    return campaign


@pytest.mark.timeout(600)
def test_everybody_gets_the_campaign_once_or_is_known_to_be_in_doubt(
    db: Connection, people: People, audience: str, sendgrid: SendGridDouble, run: Callable[..., EmailProcess]
) -> None:
    campaign = start_campaign(db, people, audience)
    service = run(EMAIL_CONCURRENCY=SLOTS)
    for count in KILLED_AT:
        until(lambda count=count: len(sendgrid.accepted) >= count, 200)  # type: ignore[misc]
        service.kill()
        db.execute(
            "update public.email_logs set lease_expires_at = now() - interval '1 second'"
            " where campaign_id = %s and status = 'sending'",
            (campaign,),
        )
        service.start()

    def counts() -> dict[str, int]:
        rows = db.execute(
            "select status, count(*) from public.email_logs where campaign_id = %s group by status", (campaign,)
        )
        return {row["status"]: row["count"] for row in rows}

    until(lambda: set(counts()) <= {"sent", "unknown"} and sum(counts().values()) == PEOPLE, 200)
    mails = db.execute("select id, status from public.email_logs where campaign_id = %s", (campaign,)).fetchall()
    times = sendgrid.times_sent()
    assert all(times[str(mail["id"])] == 1 for mail in mails if mail["status"] == "sent")
    in_doubt = [mail for mail in mails if mail["status"] == "unknown"]
    assert all(times[str(mail["id"])] <= 1 for mail in in_doubt)
    assert len(in_doubt) <= len(KILLED_AT) * SLOTS * UNRECORDED_PER_SLOT
    assert max(times.values()) == 1
    recipients = [body["personalizations"][0]["to"][0]["email"] for body in sendgrid.accepted]
    assert len(set(recipients)) == len(recipients)
    row = db.execute("select status from public.email_campaigns where id = %s", (campaign,)).fetchone()
    assert row is not None
    assert row["status"] in ("sending", "completed")
