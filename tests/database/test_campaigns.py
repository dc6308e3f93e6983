"""Campaigns: who belongs to an audience, that everybody of it gets one mail, and how a campaign moves and ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.database.personas import Connection, People, Person, Row, connect, refused, together, wait_until_blocked


class Campaigns:
    """Writes campaigns for people of one plan, which nobody else has, and empties the outbox as a sender does."""

    def __init__(self, db: Connection, people: People) -> None:
        self.db, self.people, self.plan = db, people, uuid4().hex
        self.admin = people.new(is_admin=True)
        db.execute("insert into public.subscription_plans (name, is_active) values (%s, false)", (self.plan,))
        (row,) = db.execute(
            "insert into public.email_templates (name, subject, html_content) values (%s, 'Sale', 'Sale') returning id",
            (uuid4().hex,),
        ).fetchall()
        self.template: UUID = row["id"]

    def reader(self, **columns: Any) -> Person:
        """Somebody of the plan."""
        person = self.people.new()
        self.set(person, subscription_plan=self.plan, **columns)
        return person

    def set(self, person: Person, **columns: Any) -> None:
        """Change a profile as the owner of the table."""
        for column, value in columns.items():
            self.db.execute(f"update public.profiles set {column} = %s where id = %s", (value, person.id))

    def draft(self, audience: Any = None, *, by: Person | None = None) -> UUID:
        """A draft for the people of the plan to whom `audience` applies."""
        (row,) = (by or self.admin).sql(
            "insert into public.email_campaigns (name, template_id, target_audience) values ('Sale', %s, %s)"
            " returning id",
            self.template,
            Jsonb({"plan": [self.plan]} | (audience or {})),
        )
        campaign: UUID = row["id"]
        return campaign

    def started(self, audience: Any = None) -> UUID:
        """A campaign that is due."""
        campaign = self.draft(audience)
        self.admin.call("schedule_email_campaign", p_campaign_id=campaign)
        return campaign

    def expand(self, limit: int = 1000) -> list[Row]:
        return self.people.service.rows("expand_email_campaigns", p_limit=limit)

    def expand_all(self, limit: int = 1000) -> None:
        while self.expand(limit):
            pass

    def row(self, campaign: UUID) -> Row:
        return self.db.execute("select * from public.email_campaigns where id = %s", (campaign,)).fetchall()[0]

    def mails(self, campaign: UUID) -> list[Row]:
        return self.db.execute("select * from public.email_logs where campaign_id = %s", (campaign,)).fetchall()

    def recipients(self, campaign: UUID) -> list[UUID]:
        return sorted(row["user_id"] for row in self.mails(campaign))

    def preview(self, campaign: UUID) -> Row:
        row: Row = self.admin.call("preview_email_campaign", p_campaign_id=campaign)
        return row

    def report(self, campaign: UUID) -> Row:
        row: Row = self.admin.call("email_campaign_report", p_campaign_id=campaign)
        return row


@pytest.fixture
def campaigns(db: Connection, people: People) -> Iterator[Campaigns]:
    """No campaign of another test is due, and no mail waits."""
    _empty(db)
    made = Campaigns(db, people)
    yield made
    _empty(db)
    db.execute("delete from public.email_templates where id = %s", (made.template,))
    db.execute("delete from public.subscription_plans where name = %s", (made.plan,))


def _empty(db: Connection) -> None:
    db.execute("delete from public.email_logs where campaign_id is not null or status in ('queued', 'sending')")
    db.execute("delete from public.email_campaigns")


@pytest.mark.parametrize(
    ("audience", "reached"),
    [
        ({}, "old new"),
        ({"subscription_status": ["free"]}, "new"),
        ({"subscription_status": ["basic", "starter"]}, "old"),
        ({"plan": ["free"]}, ""),
        ({"credits": {"min": 3}}, "old"),
        ({"credits": {"max": 2}}, "new"),
        ({"credits": {"min": 2, "max": 9}}, "old new"),
        ({"credits": {"min": 3, "max": 2}}, ""),
        ({"credits": {}}, "old new"),
        ({"signed_up": {"before": "2020-01-02"}}, "old"),
        ({"signed_up": {"before": "2020-01-01"}}, ""),
        ({"signed_up": {"after": "2020-01-01"}}, "old new"),
        ({"signed_up": {"after": "2020-01-01T00:00:01Z"}}, "new"),
        ({"signed_up": {"after": "2020-01-01T01:00+01:00", "before": "2020-01-01T02:00:00.5+01:00"}}, "old"),
        ({"last_activity": {"after": "2021-05-01"}}, "old new"),
        ({"last_activity": {"before": "2021-05-01"}}, ""),
        ({"last_activity": {"after": "2021-06-01"}}, "new"),
        ({"last_activity": {"before": "2022-01-01"}, "subscription_status": ["free"]}, ""),
    ],
)
def test_an_audience_is_those_to_whom_all_of_it_applies(campaigns: Campaigns, audience: Any, reached: str) -> None:
    old = campaigns.reader(
        created_at="2020-01-01T00:00Z", last_activity_at="2021-05-01T00:00Z", subscription_status="basic"
    )
    new = campaigns.reader()
    campaigns.people.service.call("add_user_credits", p_user_id=old.id, p_amount=5, p_transaction_type="bonus")
    campaigns.set(old, last_activity_at="2021-05-01T00:00Z")
    names = {old.email: "old", new.email: "new"}
    found = campaigns.preview(campaigns.draft(audience))
    mine = sorted(names[email] for email in found["sample"] if email in names)
    assert " ".join(mine) == " ".join(sorted(reached.split()))
    if "plan" not in audience:
        assert found["audience"] == found["recipients"] == len(reached.split())


def test_who_unsubscribes_after_it_began_gets_none_and_is_counted(campaigns: Campaigns) -> None:
    reader, leaver = campaigns.reader(), campaigns.reader()
    campaign = campaigns.started()
    campaigns.expand()
    service = campaigns.people.service
    assert service.call("unsubscribe_from_emails", p_user_id=leaver.id)
    mails = service.rows("claim_emails", p_limit=100, p_claim_id=uuid4())
    assert [mail["user_id"] for mail in mails] == [reader.id]
    assert campaigns.report(campaign)["suppressed"] == 1


def test_somebody_who_never_did_anything_was_active_when_he_signed_up(campaigns: Campaigns) -> None:
    campaigns.reader(created_at="2020-01-01T00:00Z", last_activity_at=None)
    assert campaigns.preview(campaigns.draft({"last_activity": {"before": "2021-01-01"}}))["audience"] == 1


def test_without_an_audience_it_goes_to_everybody(campaigns: Campaigns, db: Connection) -> None:
    campaigns.reader()
    campaign = campaigns.draft()
    campaigns.admin.sql("update public.email_campaigns set target_audience = null where id = %s", campaign)
    (everybody,) = db.execute("select count(*) from public.profiles").fetchall()
    assert campaigns.preview(campaign)["audience"] == everybody["count"]


@pytest.mark.parametrize(
    ("audience", "path"),
    [
        ([], None),
        ("free", None),
        ({"plans": ["free"]}, None),
        ({"plan": "free"}, "plan"),
        ({"plan": []}, "plan"),
        ({"plan": None}, "plan"),
        ({"plan": [1]}, "plan"),
        ({"plan": ["frea"]}, "plan"),
        ({"subscription_status": ["active"]}, "subscription_status"),
        ({"subscription_status": {"free": True}}, "subscription_status"),
        ({"credits": 5}, "credits"),
        ({"credits": {"least": 5}}, "credits"),
        ({"credits": {"min": "5"}}, "credits.min"),
        ({"credits": {"min": 0.5}}, "credits.min"),
        ({"credits": {"max": -1}}, "credits.max"),
        ({"credits": {"max": 10**12}}, "credits.max"),
        ({"signed_up": ["2026-01-01"]}, "signed_up"),
        ({"signed_up": {"since": "2026-01-01"}}, "signed_up"),
        ({"signed_up": {"after": "yesterday"}}, "signed_up.after"),
        ({"signed_up": {"after": "infinity"}}, "signed_up.after"),
        ({"signed_up": {"after": 2026}}, "signed_up.after"),
        ({"signed_up": {"after": "2026-02-30"}}, "signed_up.after"),
        ({"signed_up": {"after": "2026-02-03T10:00"}}, "signed_up.after"),
        ({"last_activity": {"before": "2026-02-03T25:00Z"}}, "last_activity.before"),
        ({"last_activity": {"before": "2026-02-03T10:00+99:00"}}, "last_activity.before"),
        ({"last_activity": {"before": None}}, "last_activity.before"),
    ],
)
def test_what_is_not_written_as_documented_is_refused_when_it_is_saved(
    campaigns: Campaigns, audience: Any, path: str | None
) -> None:
    insert = "insert into public.email_campaigns (name, target_audience) values ('Sale', %s)"
    for writer in (campaigns.admin, campaigns.people.service):
        with refused("PT400", "target_audience") as caught:
            writer.sql(insert, Jsonb(audience))
        assert f'"path": {"null" if path is None else chr(34) + path + chr(34)}' in caught.value.diag.message_detail
    campaign = campaigns.draft()
    with refused("PT400", "target_audience"):
        campaigns.admin.sql(
            "update public.email_campaigns set target_audience = %s where id = %s", Jsonb(audience), campaign
        )


def test_only_a_campaigns_template_is_taken(campaigns: Campaigns) -> None:
    insert = "insert into public.email_campaigns (name, template_id) values ('Sale', %s)"
    (receipt,) = campaigns.admin.sql("select id from public.email_templates where name = 'receipt'")
    with refused("PT400", "template"):
        campaigns.admin.sql(insert, receipt["id"])


def test_the_template_of_a_campaign_stays_one(campaigns: Campaigns) -> None:
    campaigns.draft()
    change = "update public.email_templates set name = 'receipt', type = 'receipt' where id = %s"
    with refused("PT409", "that of a campaign"):
        campaigns.admin.sql(change, campaigns.template)


def test_a_template_does_not_become_another_while_a_campaign_takes_it(campaigns: Campaigns, db_url: str) -> None:
    insert = "insert into public.email_campaigns (name, template_id) values ('Sale', %s)"
    with connect(db_url) as connection, ThreadPoolExecutor(1) as pool, connect(db_url) as other:
        with connection.transaction():
            connection.execute(insert, (campaigns.template,))
            change = "update public.email_templates set name = 'receipt', type = 'receipt' where id = %s"
            changing = pool.submit(campaigns.admin.on(other).sql, change, campaigns.template)
            wait_until_blocked(connection, other)
        with refused("PT409", "that of a campaign"):
            changing.result(10)


def test_everybody_gets_one_mail_and_then_it_is_completed(campaigns: Campaigns, db: Connection) -> None:
    readers = [campaigns.reader() for _ in range(5)]
    campaign = campaigns.started()
    moves = [campaigns.expand(2) for _ in range(4)]
    assert [[row["queued"] for row in rows] for rows in moves] == [[2], [2], [1], []]
    assert {(row["campaign_id"], row["campaign_status"]) for rows in moves for row in rows} == {(campaign, "sending")}
    assert campaigns.recipients(campaign) == sorted(reader.id for reader in readers if reader.id)
    addresses = {reader.id: reader.email for reader in readers}
    for mail in campaigns.mails(campaign):
        assert (mail["recipient"], mail["status"], mail["sent_at"]) == (addresses[mail["user_id"]], "queued", None)
        assert mail["template_id"] == campaigns.template

    db.execute("update public.email_logs set status = 'sent', sent_at = now() where campaign_id = %s", (campaign,))
    assert campaigns.expand() == [{"campaign_id": campaign, "campaign_status": "completed", "queued": 0}]
    assert campaigns.expand() == []
    row = campaigns.row(campaign)
    assert (row["status"], row["sent_at"] is not None) == ("completed", True)


def test_a_campaign_for_nobody_is_completed_at_once(campaigns: Campaigns) -> None:
    campaign = campaigns.started()
    assert [row["campaign_status"] for rows in (campaigns.expand(), campaigns.expand()) for row in rows] == [
        "sending",
        "completed",
    ]
    assert campaigns.mails(campaign) == []


def test_a_batch_that_was_rolled_back_is_done_again(campaigns: Campaigns) -> None:
    readers = [campaigns.reader() for _ in range(3)]
    campaign = campaigns.started()
    campaigns.expand(1)
    with campaigns.people.service.trying() as connection:
        connection.execute("select * from public.expand_email_campaigns(1)")
    campaigns.expand_all(1)
    assert campaigns.recipients(campaign) == sorted(reader.id for reader in readers if reader.id)


def test_senders_that_expand_at_once_write_one_mail_for_each(campaigns: Campaigns, db_url: str) -> None:
    readers = [campaigns.reader() for _ in range(30)]
    both = [campaigns.started(), campaigns.started()]
    service = campaigns.people.service

    def sender(connection: Connection) -> None:
        # A sender that finds all campaigns held by others is told that there is nothing to do.
        for _ in range(40):
            service.on(connection).rows("expand_email_campaigns", p_limit=3)

    together(db_url, [sender] * 4)
    for campaign in both:
        assert campaigns.recipients(campaign) == sorted(reader.id for reader in readers if reader.id)
        assert campaigns.row(campaign)["expanded_at"] is not None


def test_senders_admins_and_deletions_at_once_get_in_nobodys_way(campaigns: Campaigns, db_url: str) -> None:
    readers = [campaigns.reader() for _ in range(60)]
    kept, cancelled = campaigns.started(), campaigns.started()
    service, admin = campaigns.people.service, campaigns.admin

    def sender(connection: Connection) -> None:
        me = service.on(connection)
        for number in range(60):
            me.rows("expand_email_campaigns", p_limit=5)
            claim = uuid4()
            mails = me.rows("claim_emails", p_limit=5, p_claim_id=claim)
            outcome = "retry" if number % 3 == 0 else "sent"
            results = [{"id": str(mail["id"]), "outcome": outcome, "is_counted": False} for mail in mails]
            me.call("settle_emails", p_lease_token=claim, p_results=results)

    def canceller(connection: Connection) -> None:
        while not admin.on(connection).call("email_campaign_report", p_campaign_id=cancelled)["mails"]:
            pass
        admin.on(connection).call("cancel_email_campaign", p_campaign_id=cancelled)

    def leavers(connection: Connection) -> None:
        for reader in readers[::6]:
            connection.execute("delete from auth.users where id = %s", (reader.id,))

    campaigns.db.execute("update public.email_campaigns set emails_per_minute = 100000")
    together(db_url, [sender, sender, sender, canceller, leavers])
    campaigns.expand_all()
    gone = {reader.id for reader in readers[::6]}
    assert campaigns.recipients(kept) == sorted(reader.id for reader in readers if reader.id and reader.id not in gone)
    assert {row["status"] for row in campaigns.mails(cancelled)} <= {"sent", "cancelled"}


def test_mails_go_at_the_pace_of_their_campaign_however_many_send(
    campaigns: Campaigns, db: Connection, db_url: str
) -> None:
    for _ in range(8):
        campaigns.reader()
    campaign = campaigns.started()
    campaigns.expand_all()
    db.execute("update public.email_campaigns set emails_per_minute = 10")

    def claim(connection: Connection) -> int:
        return len(campaigns.people.service.on(connection).rows("claim_emails", p_limit=100, p_claim_id=uuid4()))

    # One every six seconds, and six seconds may be made up for.
    assert sum(together(db_url, [claim] * 4)) == 2
    assert claim(db) == 0
    # After an hour without a sender they do not come all at once.
    db.execute("update public.email_campaigns set next_email_at = now() - interval '1 hour'")
    assert claim(db) == 2
    db.execute("update public.email_campaigns set emails_per_minute = 100000, next_email_at = null")
    assert claim(db) == 4
    assert [row["status"] for row in campaigns.mails(campaign)] == ["sending"] * 8


def test_campaigns_share_what_a_sender_takes_and_other_mails_come_first(campaigns: Campaigns, db: Connection) -> None:
    for _ in range(4):
        campaigns.reader()
    both = [campaigns.started(), campaigns.started()]
    campaigns.expand_all()
    campaigns.people.new()  # and his welcome
    db.execute(
        "update public.email_logs set status = 'queued', sent_at = null, next_attempt_at = now() where id ="
        " (select id from public.email_logs where campaign_id is null order by created_at desc limit 1)"
    )
    mails = campaigns.people.service.rows("claim_emails", p_limit=5, p_claim_id=uuid4())
    assert [mail["type"] for mail in mails] == ["welcome", *["campaign"] * 4]
    assert sorted(mail["campaign_id"] for mail in mails[1:]) == sorted(both * 2)
    assert mails[1]["data"] | {"credits": "2 credits", "plan": campaigns.plan.capitalize()} == mails[1]["data"]


def test_who_does_not_want_mails_gets_none_and_the_plan_says_why(campaigns: Campaigns, db: Connection) -> None:
    reader, unsubscribed, bounced, inactive, nameless, unconfirmed = (campaigns.reader() for _ in range(6))
    campaigns.set(unsubscribed, marketing_emails=False)
    campaigns.set(inactive, is_active=False)
    campaigns.set(nameless, email=f"{nameless.id}@no-email.invalid")
    db.execute("insert into public.email_suppressions (email, reason) values (%s, 'bounce')", (bounced.email,))
    db.execute("update auth.users set email_confirmed_at = null where id = %s", (unconfirmed.id,))
    campaign = campaigns.started()
    found = campaigns.preview(campaign)
    assert (found["audience"], found["recipients"], found["sample"]) == (6, 1, [reader.email])
    assert sum(found["excluded"].values()) == len(found["excluded"]) == 5, "one for each reason"
    campaigns.expand_all()
    assert campaigns.recipients(campaign) == [reader.id]


def test_who_signs_up_later_does_not_belong_to_it(campaigns: Campaigns) -> None:
    first = campaigns.reader()
    campaign = campaigns.started()
    campaigns.expand(1)
    for _ in range(10):  # some of them have an id behind the place that it has come to
        campaigns.reader()
    campaigns.expand_all(1)
    assert campaigns.recipients(campaign) == [first.id]


def test_an_account_that_is_just_being_deleted_gets_none(campaigns: Campaigns, db_url: str) -> None:
    gone, reader = campaigns.reader(), campaigns.reader()
    campaign = campaigns.started()
    with connect(db_url) as connection, ThreadPoolExecutor(1) as pool, connect(db_url) as other:
        with connection.transaction():
            connection.execute("delete from auth.users where id = %s", (gone.id,))
            service = campaigns.people.service.on(other)
            expansion = pool.submit(service.rows, "expand_email_campaigns", p_limit=10)
            wait_until_blocked(connection, other)
        assert expansion.result(10)[0]["queued"] == 1
    assert campaigns.recipients(campaign) == [reader.id]


def test_it_starts_at_its_time_and_with_an_active_template(campaigns: Campaigns, db: Connection) -> None:
    campaigns.reader()
    campaign = campaigns.draft()
    schedule = partial(campaigns.admin.call, "schedule_email_campaign", p_campaign_id=campaign)
    (tomorrow,) = db.execute("select now() + interval '1 day' as at").fetchall()
    assert schedule(p_at=tomorrow["at"])["scheduled_at"] == tomorrow["at"]
    assert campaigns.expand() == []
    assert schedule()["status"] == "scheduled"
    db.execute("update public.email_templates set is_active = false where id = %s", (campaigns.template,))
    assert campaigns.expand() == []
    with refused("PT409", "no active template"):
        schedule()
    db.execute("update public.email_templates set is_active = true where id = %s", (campaigns.template,))
    assert campaigns.expand()[0]["queued"] == 1


@pytest.mark.parametrize("at", [None, "infinity", "2099-01-01"])
def test_a_time_that_is_too_far_is_refused(campaigns: Campaigns, at: str | None) -> None:
    with refused("PT400", "within a year"):
        campaigns.admin.sql("select public.schedule_email_campaign(%s, %s::timestamptz)", campaigns.draft(), at)


SCHEDULE = "select public.schedule_email_campaign(%s, now() + %s::interval)"


def test_a_time_that_is_past_mails_nobody(campaigns: Campaigns) -> None:
    campaigns.reader()
    campaign = campaigns.draft()
    for at in ("-infinity", "2020-01-01"):
        with refused("PT400", "is past"):
            campaigns.admin.sql("select public.schedule_email_campaign(%s, %s::timestamptz)", campaign, at)
    with refused("PT400", "is past"):
        campaigns.admin.sql(SCHEDULE, campaign, "-6 minutes")
    assert campaigns.row(campaign)["status"] == "draft"
    # One that is planned already keeps its time.
    campaigns.admin.sql(SCHEDULE, campaign, "1 hour")
    before = campaigns.row(campaign)["scheduled_at"]
    with refused("PT400", "is past"):
        campaigns.admin.sql(SCHEDULE, campaign, "-6 minutes")
    assert campaigns.row(campaign)["scheduled_at"] == before
    assert campaigns.expand() == []


def test_a_clock_that_is_somewhat_behind_may_say_now(campaigns: Campaigns) -> None:
    campaigns.reader()
    campaigns.admin.sql(SCHEDULE, campaigns.draft(), "-4 minutes")
    assert campaigns.expand()[0]["queued"] == 1


def test_a_campaign_without_a_template_is_not_scheduled(campaigns: Campaigns) -> None:
    campaign = campaigns.draft()
    campaigns.admin.sql("update public.email_campaigns set template_id = null where id = %s", campaign)
    with refused("PT409", "no active template"):
        campaigns.admin.call("schedule_email_campaign", p_campaign_id=campaign)


def test_cancelling_stops_what_is_not_handed_over(campaigns: Campaigns, db: Connection) -> None:
    for _ in range(3):
        campaigns.reader()
    campaign = campaigns.started()
    campaigns.expand(2)
    mail = campaigns.mails(campaign)[0]["id"]
    db.execute("update public.email_logs set status = 'sent', sent_at = now() where id = %s", (mail,))
    cancelled = campaigns.admin.call("cancel_email_campaign", p_campaign_id=campaign)
    assert (cancelled["status"], cancelled["cancelled_at"] is not None) == ("cancelled", True)
    assert sorted(row["status"] for row in campaigns.mails(campaign)) == ["cancelled", "sent"]
    assert campaigns.expand() == []
    assert campaigns.admin.call("cancel_email_campaign", p_campaign_id=campaign) == cancelled
    with refused("PT409", "cancelled already"):
        campaigns.admin.call("schedule_email_campaign", p_campaign_id=campaign)


def test_a_mail_that_was_being_sent_when_its_campaign_was_cancelled_does_not_come_back(campaigns: Campaigns) -> None:
    campaigns.reader()
    campaign = campaigns.started()
    campaigns.expand()
    claim, service = uuid4(), campaigns.people.service
    (mail,) = service.rows("claim_emails", p_limit=1, p_claim_id=claim)
    campaigns.admin.call("cancel_email_campaign", p_campaign_id=campaign)
    service.call("settle_emails", p_lease_token=claim, p_results=[{"id": str(mail["id"]), "outcome": "retry"}])
    assert [row["status"] for row in campaigns.mails(campaign)] == ["cancelled"]
    assert service.rows("claim_emails", p_limit=1, p_claim_id=uuid4()) == []


def test_a_completed_campaign_is_not_cancelled(campaigns: Campaigns) -> None:
    campaign = campaigns.started()
    campaigns.expand_all()
    with refused("PT409", "completed already"):
        campaigns.admin.call("cancel_email_campaign", p_campaign_id=campaign)


def test_what_has_begun_changes_nothing_but_its_pace(campaigns: Campaigns) -> None:
    campaign = campaigns.started()
    update = "update public.email_campaigns set {} where id = %s returning id"
    for writer in (campaigns.admin, campaigns.people.service):
        assert writer.sql(update.format("target_audience = null"), campaign)
    campaigns.expand()
    for writer in (campaigns.admin, campaigns.people.service):
        for change in ('target_audience = \'{"plan": ["free"]}\'', "template_id = null", "name = 'Other'"):
            with refused("PT409", "has begun"):
                writer.sql(update.format(change), campaign)
        assert writer.sql(update.format("emails_per_minute = 60, name = name"), campaign)


@pytest.mark.parametrize("column", ["status", "scheduled_at", "started_at", "expanded_to", "expanded_at", "sent_at"])
def test_nobody_moves_a_campaign_but_by_the_functions(campaigns: Campaigns, column: str) -> None:
    campaign = campaigns.draft()
    for writer in (campaigns.admin, campaigns.people.service):
        with refused("42501"):
            writer.sql(f"update public.email_campaigns set {column} = {column} where id = %s", campaign)


FUNCTIONS = ("preview_email_campaign", "schedule_email_campaign", "email_campaign_report", "cancel_email_campaign")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_admins_and_operators_call_the_functions_and_nobody_else(campaigns: Campaigns, function: str) -> None:
    people = campaigns.people
    campaign = campaigns.draft()
    with refused("42501"):
        people.anon.call(function, p_campaign_id=campaign)
    for somebody in (people.new(), people.new(is_admin=True, is_active=False)):
        with refused("PT403", "Only an admin"):
            somebody.call(function, p_campaign_id=campaign)
    for somebody in (campaigns.admin, people.service):
        somebody.call(function, p_campaign_id=campaign)
        with refused("PT404", "Campaign not found"):
            somebody.call(function, p_campaign_id=uuid4())


def test_only_services_expand(campaigns: Campaigns) -> None:
    for somebody in (campaigns.people.anon, campaigns.people.new(), campaigns.admin):
        with refused("42501"):
            somebody.rows("expand_email_campaigns")
    for limit in (None, 0, 10_001):
        with refused("PT400", "limit"):
            campaigns.people.service.rows("expand_email_campaigns", p_limit=limit)


def test_who_scheduled_and_cancelled_is_logged(campaigns: Campaigns, db: Connection) -> None:
    campaign = campaigns.draft()
    campaigns.admin.call("schedule_email_campaign", p_campaign_id=campaign)
    for _ in range(2):
        campaigns.people.service.call("cancel_email_campaign", p_campaign_id=campaign)
    log = db.execute(
        "select action, actor_id from public.admin_logs where target_id = %s order by created_at", (campaign,)
    ).fetchall()
    assert [(row["action"], row["actor_id"]) for row in log] == [
        ("insert", campaigns.admin.id),
        ("schedule_email_campaign", campaigns.admin.id),
        ("cancel_email_campaign", None),
    ]


def test_the_report_counts_how_far_each_mail_got(campaigns: Campaigns, db: Connection) -> None:
    states = ("queued", "sent", "sent", "delivered", "opened", "clicked", "bounced", "failed", "unknown", "suppressed")
    for _ in states:
        campaigns.reader()
    campaign = campaigns.started()
    campaigns.expand_all()
    for mail, state in zip(campaigns.mails(campaign), states, strict=True):
        times = {
            "sent": "sent_at",
            "bounced": "sent_at",
            "delivered": "sent_at, delivered_at",
            "opened": "sent_at, delivered_at, opened_at",
            "clicked": "sent_at, delivered_at, opened_at, clicked_at",
        }.get(state, "")
        set_times = "".join(f", {column} = now()" for column in times.split(", ") if column)
        db.execute(f"update public.email_logs set status = %s{set_times} where id = %s", (state, mail["id"]))
        if state == "clicked":
            for number in range(2):
                db.execute(
                    "insert into public.email_events (sg_event_id, email_log_id, event_type, occurred_at)"
                    " values (%s, %s, 'unsubscribe', now())",
                    (f"{mail['id']}.{number}", mail["id"]),
                )
    report = campaigns.report(campaign)
    counts = {key: value for key, value in report.items() if isinstance(value, int)}
    assert counts == {
        "mails": 10, "queued": 1, "sending": 0, "sent": 6, "delivered": 3, "opened": 2, "clicked": 1, "bounced": 1,
        "failed": 1, "unknown": 1, "suppressed": 1, "cancelled": 0, "unsubscribed": 1, "spam_reports": 0,
    }  # fmt: skip
    rates = {key: float(value) for key, value in report.items() if key.endswith("_rate")}
    assert rates == {"delivery_rate": 0.5, "bounce_rate": 0.1667, "open_rate": 0.6667, "click_rate": 0.3333}


def test_a_report_without_mails_has_no_rates(campaigns: Campaigns) -> None:
    report = campaigns.report(campaigns.draft())
    assert (report["campaign_status"], report["mails"], report["delivery_rate"]) == ("draft", 0, None)


def test_what_was_sent_is_not_deleted(campaigns: Campaigns) -> None:
    campaigns.reader()
    sent, draft = campaigns.started(), campaigns.draft()
    campaigns.expand()
    delete = "delete from public.email_campaigns where id = %s returning id"
    assert len(campaigns.admin.sql(delete, draft)) == 1
    assert campaigns.admin.sql(delete, sent) == []
    campaigns.admin.call("cancel_email_campaign", p_campaign_id=sent)
    with refused("23503"):
        campaigns.admin.sql(delete, sent)
