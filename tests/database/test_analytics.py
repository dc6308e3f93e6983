"""The figures of the business on a small world of the year 2001, whose answers can be worked out by hand.

History cannot be made through the ledger's functions, which write today's date: the world writes its rows itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.database.personas import Connection, People, Person, Row, refused, together

FIRST, LAST = "2001-01-15", "2001-03-01"
JANUARY, FEBRUARY, MARCH = date(2001, 1, 1), date(2001, 2, 1), date(2001, 3, 1)
PACKAGE = "a0000000-0000-4000-8000-000000000010"
MONTHLY = ("stats_revenue", "stats_margins", "stats_funnel", "stats_retention")
FIGURES = (*MONTHLY, "stats_queue", "stats_engines")

money = Decimal


def _allocations(amounts: dict[UUID, int]) -> str:
    """The allocations of an entry, as Postgres writes them."""
    parts = ",".join(f'"({grant},{amount})"' for grant, amount in amounts.items())
    return f"{{{parts}}}"


@dataclass
class Account:
    """Somebody of the past, and where his ledger stands."""

    person: Person
    seq: int = 1
    balance: int = 2


@dataclass
class World:
    """Writes the past, as the owner of the tables."""

    db: Connection
    people: People
    accounts: list[Account] = field(default_factory=list)

    def sign_up(self, when: str, **values: int) -> Account:
        """An account made at `when`; `values` are columns of its profile."""
        account = Account(self.people.new())
        self.db.execute("update public.profiles set created_at = %s where id = %s", (when, account.person.id))
        for column, value in values.items():
            self.db.execute(f"update public.profiles set {column} = %s where id = %s", (value, account.person.id))
        self.accounts.append(account)
        return account

    def entry(self, account: Account, kind: str, change: int, when: str, **values: Any) -> UUID:
        """A ledger entry that moves the balance by `change`."""
        account.seq += 1
        row = {
            "id": uuid4(),
            "user_id": account.person.id,
            "seq": account.seq,
            "transaction_type": kind,
            "amount": abs(change),
            "balance_before": account.balance,
            "balance_after": account.balance + change,
            "created_at": when,
        } | values
        account.balance += change
        self.insert("credit_transactions", row)
        return UUID(str(row["id"]))

    def grant(
        self,
        account: Account,
        credits: int,
        when: str,
        price: str | None = None,
        currency: str | None = None,
        **product: Any,
    ) -> UUID:
        """Credits that were given, or bought for `price`."""
        kind = "purchase" if price else "bonus"
        intent = {"stripe_payment_intent_id": f"pi_{uuid4()}"} if price else {}
        transaction = self.entry(account, kind, credits, when, **intent, **product)
        row = {
            "id": uuid4(),
            "user_id": account.person.id,
            "transaction_id": transaction,
            "seq": account.seq,
            "source": kind,
            "amount": credits,
            "remaining": credits,
            "money_amount": price and money(price),
            "currency": currency,
            "created_at": when,
        }
        self.insert("credit_grants", row)
        return UUID(str(row["id"]))

    def charge(self, account: Account, operation: str | None, when: str, taken: dict[UUID, int]) -> UUID:
        """A charge that took from each grant as many credits."""
        metadata = Jsonb({"operation_type": operation}) if operation else None
        allocations = _allocations({grant: -credits for grant, credits in taken.items()})
        return self.entry(account, "usage", -sum(taken.values()), when, metadata=metadata, allocations=allocations)

    def refund(self, account: Account, usage: UUID, operation: str, when: str, given: dict[UUID, int]) -> None:
        """The way back of a charge."""
        metadata = Jsonb({"operation_type": operation})
        self.entry(
            account, "refund", sum(given.values()), when, metadata=metadata, refunded_transaction_id=usage,
            allocations=_allocations(given),
        )  # fmt: skip

    def claw_back(
        self, account: Account, grant: UUID, price: str, currency: str, when: str, reversed_at: str | None = None
    ) -> None:
        """Money that went back, and came again."""
        row = {"id": uuid4(), "user_id": account.person.id, "grant_id": grant, "amount": 1, "owed": 0, "expired": 0}
        terms = {"money_amount": money(price), "currency": currency, "reason": "refund", "reversed_at": reversed_at}
        self.insert("credit_clawbacks", row | terms | {"created_at": when})

    def call(self, account: Account, operation: str, cost: str | None, when: str) -> None:
        """A call of a provider."""
        row = {"user_id": account.person.id, "api_provider": "openai", "operation_type": operation}
        self.insert("api_usage_logs", row | {"cost": cost and money(cost), "created_at": when})

    def insert(self, table: str, row: dict[str, Any]) -> None:
        columns = ", ".join(row)
        values = ", ".join(f"%({column})s" for column in row)
        self.db.execute(f"insert into public.{table} ({columns}) values ({values})", row)

    def end(self) -> None:
        """Take everything away, what remains of deleted accounts included."""
        self.people.remove()
        self.db.execute("delete from private.counted_days")
        self.db.execute("delete from private.closed_account_operations where month < '2002-01-01'")
        self.db.execute("delete from public.closed_account_totals where month < '2002-01-01'")


@pytest.fixture
def world(db: Connection) -> Iterator[World]:
    world = World(db, People(db))
    try:
        yield world
    finally:
        world.end()


@pytest.fixture(params=["counted as asked", "counted before"])
def ask(request: pytest.FixtureRequest, world: World) -> Any:
    """Asks for a figure: from the entries themselves, and from the totals of days that were counted before."""

    def ask(figure: str, **arguments: Any) -> list[tuple[Any, ...]]:
        if request.param == "counted before":
            count(world.people)
        # Far from UTC, where the last evening of a month would be another month.
        with world.people.service.trying() as connection:
            connection.execute("set local time zone 'Pacific/Auckland'")
            period = arguments or {"p_first_month": FIRST, "p_last_month": LAST}
            names = ", ".join(f"{name} => %({name})s" for name in period)
            rows = connection.execute(f"select * from public.{figure}({names})", period).fetchall()
        return [tuple(row.values()) for row in rows]

    return ask


def count(people: People) -> None:
    """Count the days of 2001, again where they were counted."""
    people.service.call("refresh_stats", p_from="2001-01-01", p_limit=400)


def test_revenue_is_by_month_product_and_currency(world: World, ask: Any) -> None:
    ann, ben = world.sign_up("2001-01-01Z"), world.sign_up("2001-01-01Z")
    plan = world.db.execute("select id from public.subscription_plans where name = 'basic'").fetchone()
    assert plan is not None
    first = world.grant(ann, 10, "2001-01-31 23:59:59Z", "7.99", "USD", pay_as_you_go_package_id=PACKAGE)
    world.grant(ben, 10, "2001-01-02Z", "7.99", "USD", pay_as_you_go_package_id=PACKAGE)
    world.grant(ben, 10, "2001-02-01Z", "7.49", "EUR", pay_as_you_go_package_id=PACKAGE)
    world.grant(ben, 20, "2001-02-28 23:59:59Z", "9.99", "USD", subscription_plan_id=plan["id"])
    world.grant(ben, 5, "2001-02-03Z", "3.50", "USD")
    world.grant(ben, 2, "2001-02-03Z")
    world.claw_back(ann, first, "7.99", "USD", "2001-02-05Z", reversed_at="2001-03-01Z")
    world.claw_back(ann, first, "0.01", "USD", "2001-03-31 23:59:59Z")
    world.grant(ben, 10, "2001-04-01Z", "7.99", "USD", pay_as_you_go_package_id=PACKAGE)
    package = (UUID(PACKAGE), "10 credits")
    assert ask("stats_revenue") == [
        (JANUARY, "package", *package, "USD", 2, 20, money("15.98"), 0, money("15.98")),
        (FEBRUARY, "other", None, "other", "USD", 1, 5, money("3.50"), 0, money("3.50")),
        (FEBRUARY, "package", *package, "EUR", 1, 10, money("7.49"), 0, money("7.49")),
        (FEBRUARY, "package", *package, "USD", 0, 0, 0, money("7.99"), money("-7.99")),
        (FEBRUARY, "plan", plan["id"], "basic", "USD", 1, 20, money("9.99"), 0, money("9.99")),
        (MARCH, "package", *package, "USD", 0, 0, 0, money("-7.98"), money("7.98")),
    ]


def test_an_operation_earns_what_its_credits_were_bought_for_and_costs_what_providers_took(
    world: World, ask: Any
) -> None:
    ann = world.sign_up("2001-01-01Z")
    free = world.grant(ann, 2, "2001-01-01Z")
    dollars = world.grant(ann, 10, "2001-01-01Z", "7.99", "USD")
    thirds = world.grant(ann, 3, "2001-01-01Z", "1.00", "USD")
    euros = world.grant(ann, 10, "2001-01-01Z", "8.00", "EUR")
    world.charge(ann, "upscale", "2001-01-31 23:59:59Z", {free: 1})
    world.charge(ann, "vectorize", "2001-02-01Z", {free: 1, dollars: 1})
    back = world.charge(ann, "vectorize", "2001-02-02Z", {dollars: 2})
    world.refund(ann, back, "vectorize", "2001-03-01Z", {dollars: 2})
    for day in (1, 2, 3):
        world.charge(ann, "upscale", f"2001-02-0{day}Z", {thirds: 1})
    world.charge(ann, "generate", "2001-02-03Z", {euros: 2})
    world.charge(ann, "background_removal", "2001-02-03Z", {dollars: 1, euros: 1})
    world.charge(ann, None, "2001-02-03Z", {dollars: 1})
    world.call(ann, "generate", "0.0512", "2001-02-03Z")
    world.call(ann, "generate", None, "2001-02-28 23:59:59Z")
    world.call(ann, "upscale", "0.0300", "2001-02-04Z")
    assert ask("stats_margins") == [
        (JANUARY, "upscale", 1, 1, 1, {}, 0, 0, 0, 0),
        (FEBRUARY, "background_removal", 1, 2, 0, {"USD": 0.799, "EUR": 0.8}, 0, 0, 0, None),
        (FEBRUARY, "generate", 1, 2, 0, {"EUR": 1.6}, 2, 1, money("0.0512"), None),
        (FEBRUARY, "other", 1, 1, 0, {"USD": 0.799}, 0, 0, 0, money("0.7990")),
        (FEBRUARY, "upscale", 3, 3, 0, {"USD": 1.0}, 1, 0, money("0.0300"), money("0.9700")),
        (FEBRUARY, "vectorize", 2, 4, 1, {"USD": 2.397}, 0, 0, 0, money("2.3970")),
        (MARCH, "vectorize", -1, -2, 0, {"USD": -1.598}, 0, 0, 0, money("-1.5980")),
    ]


def test_the_funnel_counts_accounts_by_the_month_of_their_sign_up(world: World, ask: Any) -> None:
    world.sign_up("2001-01-01Z")
    uploader = world.sign_up("2001-01-31 23:59:59Z")
    world.people.image(uploader.person)
    forgetful = world.sign_up("2001-01-20Z", total_credits_used=1)
    world.db.execute("delete from public.images where id = %s", (world.people.image(forgetful.person),))
    world.sign_up("2001-02-01Z", total_credits_used=1, total_credits_purchased=10)
    world.sign_up("2001-04-01Z", total_credits_used=1)
    assert ask("stats_funnel") == [(JANUARY, 3, 2, 1, 0), (FEBRUARY, 1, 0, 1, 1)]


def test_retention_follows_each_cohort_month_by_month(world: World, ask: Any) -> None:
    ann, ben = world.sign_up("2001-01-31 23:59:59Z"), world.sign_up("2001-01-01Z")
    cid, _ = world.sign_up("2001-02-01Z"), world.sign_up("2001-02-02Z")
    for account, days in ((ann, ("01-31 23:59:59", "03-01", "03-31", "04-01")), (ben, ("01-05",)), (cid, ("03-31",))):
        grant = world.grant(account, 9, "2001-01-01Z")
        for day in days:
            world.charge(account, "upscale", f"2001-{day}Z", {grant: 1})
    assert ask("stats_retention") == [
        (JANUARY, 2, JANUARY, 0, 2),
        (JANUARY, 2, FEBRUARY, 1, 0),
        (JANUARY, 2, MARCH, 2, 1),
        (FEBRUARY, 2, FEBRUARY, 0, 0),
        (FEBRUARY, 2, MARCH, 1, 1),
    ]
    assert ask("stats_retention", p_first_month="2001-02-01", p_last_month="2001-02-28") == [
        (FEBRUARY, 2, FEBRUARY, 0, 0)
    ]


def test_an_account_active_on_counted_days_and_on_others_is_active_once(world: World) -> None:
    ann, ben = world.sign_up("2001-01-01Z"), world.sign_up("2001-01-01Z")
    for account, days in ((ann, (2, 4)), (ben, (4,))):
        grant = world.grant(account, 2, "2001-01-01Z")
        for day in days:
            world.charge(account, "upscale", f"2001-01-0{day}Z", {grant: 1})
    count(world.people)
    world.db.execute("delete from private.counted_days where day >= '2001-01-04'")
    world.db.execute("delete from private.active_months where user_id = %s", (ben.person.id,))
    rows = world.people.service.rows("stats_retention", p_first_month=FIRST, p_last_month=FIRST)
    assert [row["active"] for row in rows] == [2]


def test_a_deleted_account_stays_in_the_figures_of_money(world: World, ask: Any) -> None:
    for number in (1, 2):
        account = world.sign_up("2001-01-01Z")
        grant = world.grant(account, 10, "2001-01-02Z", "7.99", "USD", pay_as_you_go_package_id=PACKAGE)
        usage = world.charge(account, "generate", "2001-02-01Z", {grant: 2 + number})
        world.charge(account, "upscale", "2001-02-01Z", {grant: 1})
        world.refund(account, usage, "generate", "2001-03-01Z", {grant: 2 + number})
        world.claw_back(account, grant, "7.99", "USD", "2001-02-05Z", reversed_at="2001-03-01Z")
        world.claw_back(account, grant, "1.00", "USD", "2001-03-05Z")
        world.call(account, "generate", "0.05", "2001-02-01Z")
        world.call(account, "generate", None, "2001-02-01Z")

    def figures() -> list[Any]:
        seen = "select * from public.revenue_analytics where month < '2002-01-01Z'"
        return [ask("stats_revenue"), ask("stats_margins"), world.people.service.sql(seen)]

    before = figures()
    assert [row["transaction_count"] for row in before[2]] == [2]
    for account in world.accounts:
        world.db.execute("delete from auth.users where id = %s", (account.person.id,))
        assert figures() == before
    assert ask("stats_funnel") == []
    assert ask("stats_retention") == []


def test_a_deletion_drops_the_days_of_the_account_and_the_next_refresh_counts_them(world: World) -> None:
    ann, ben = world.sign_up("2001-01-01Z"), world.sign_up("2001-01-01Z")
    for account, day in ((ann, "2001-01-03Z"), (ben, "2001-01-02Z")):
        grant = world.grant(account, 1, day, "1.00", "USD")
        world.charge(account, "upscale", day, {grant: 1})
        if account is ann:
            world.call(ann, "upscale", "0.05", "2001-01-05Z")
            world.claw_back(ann, grant, "1.00", "USD", "2001-01-07Z", reversed_at="2001-01-09Z")
    count(world.people)
    assert not uncounted(world)
    world.db.execute("delete from auth.users where id = %s", (ann.person.id,))
    assert [row["first_day"].day for row in uncounted(world)] == [3, 5, 7, 9]
    assert [row["next_day"].day for row in uncounted(world)] == [4, 6, 8, 10]
    world.people.service.call("refresh_stats")
    assert not uncounted(world)


def uncounted(world: World) -> list[Row]:
    return world.db.execute("select * from private.uncounted_days('2001-01-02', '2001-01-10')").fetchall()


def test_counting_goes_on_where_it_stopped_and_says_what_is_left(world: World) -> None:
    ann = world.sign_up("2001-01-01Z")
    world.charge(ann, "upscale", "2001-01-03Z", {world.grant(ann, 1, "2001-01-02Z"): 1})
    left = world.people.service.call("refresh_stats", p_limit=2)
    assert uncounted(world)[0]["first_day"] == date(2001, 1, 4)
    assert world.people.service.call("refresh_stats", p_limit=3) == left - 3
    assert uncounted(world)[0]["first_day"] == date(2001, 1, 7)
    for limit in (None, 0, 10001):
        with refused("PT400"):
            world.people.service.call("refresh_stats", p_limit=limit)


def test_an_entry_that_came_late_is_counted_when_its_day_is_counted_again(world: World) -> None:
    ann = world.sign_up("2001-01-01Z")
    grant = world.grant(ann, 2, "2001-01-02Z")
    world.charge(ann, "upscale", "2001-01-02Z", {grant: 1})
    count(world.people)
    world.charge(ann, "upscale", "2001-01-02Z", {grant: 1})
    margins = partial(world.people.service.rows, "stats_margins", p_first_month=FIRST, p_last_month=FIRST)
    assert [row["operations"] for row in margins()] == [1]
    world.people.service.call("refresh_stats", p_from="2001-01-02", p_limit=1)
    assert [row["operations"] for row in margins()] == [2]


def test_the_newest_two_days_are_counted_anew_and_the_current_one_is_not_kept(world: World) -> None:
    (now,) = world.db.execute("select now() as moment, (now() at time zone 'UTC' - interval '1 hour')::date as day")
    ann = world.sign_up("now")
    for days in range(6):  # within the first hour of a day, the one before is the current one
        world.grant(ann, 1, str(now["moment"] - timedelta(days=days)), "1.00", "USD")

    def counted() -> dict[int, Any]:
        """When each day was counted, by its age."""
        while world.people.service.call("refresh_stats"):
            pass
        rows = world.db.execute("select day, counted_at from private.counted_days").fetchall()
        return {(now["day"] - row["day"]).days: row["counted_at"] for row in rows}

    before, after = counted(), counted()
    assert set(before) == set(after) >= {1, 2, 3, 4}
    assert 0 not in before
    assert [after[age] > before[age] for age in (1, 2, 3, 4)] == [True, True, False, False]


def test_accounts_that_are_deleted_while_days_are_counted_are_counted_once(world: World, db_url: str) -> None:
    for _ in range(8):
        account = world.sign_up("2001-01-01Z")
        world.charge(account, "upscale", "2001-01-02Z", {world.grant(account, 1, "2001-01-02Z", "1.00", "USD"): 1})

    def refresh(connection: Connection) -> None:
        for _ in range(5):
            world.people.service.on(connection).call("refresh_stats", p_from="2001-01-01", p_limit=100)

    def delete(account: Account, connection: Connection) -> None:
        connection.execute("delete from auth.users where id = %s", (account.person.id,))

    deletions = [partial(delete, account) for account in world.accounts[:6]]
    together(db_url, [partial(refresh), partial(refresh), *deletions])
    (margin,) = world.people.service.rows("stats_margins", p_first_month=FIRST, p_last_month=FIRST)
    (revenue,) = world.people.service.rows("stats_revenue", p_first_month=FIRST, p_last_month=FIRST)
    assert (margin["operations"], margin["earned"], revenue["received"]) == (8, {"USD": 8.0}, 8)


@pytest.mark.usefixtures("empty_queue")
def test_the_queue_says_what_waits_runs_and_is_lost(world: World, db: Connection) -> None:
    ann = world.sign_up("2001-01-01Z")
    image = world.people.image(ann.person)
    assert world.people.service.rows("stats_queue") == []

    def operation(kind: str, status: str, run_after: str, lease: str | None = None) -> None:
        db.execute(
            "insert into public.image_operations (image_id, user_id, operation_type, status, run_after, "
            "lease_expires_at) values (%s, %s, %s, %s, now() + %s::interval, now() + %s::interval)",
            (image, ann.person.id, kind, status, run_after, lease),
        )

    operation("upscale", "pending", "-90 seconds")
    operation("upscale", "pending", "-10 seconds")
    operation("upscale", "pending", "1 hour")
    operation("upscale", "processing", "-1 hour", "30 seconds")
    operation("upscale", "processing", "-1 hour", "-1 second")
    operation("vectorize", "pending", "1 hour")
    upscale, vectorize = world.people.service.rows("stats_queue")
    assert 90 <= upscale.pop("oldest_wait_seconds") < 150
    assert tuple(upscale.values()) == ("upscale", 2, 1, 2, 1)
    assert tuple(vectorize.values()) == ("vectorize", 0, None, 1, 0, 0)


def test_engines_show_how_often_they_fail_and_how_long_they_take(world: World, db: Connection) -> None:
    ann = world.sign_up("2001-01-01Z")
    image = world.people.image(ann.person)

    def operation(engine: str, status: str, wait: int | None, run: int, attempts: int = 1) -> None:
        # Requested at midnight; an attempt beyond the first was due an hour later.
        due = "2001-01-02Z" if attempts == 1 else "2001-01-02 01:00Z"
        db.execute(
            "insert into public.image_operations (image_id, user_id, operation_type, api_provider, status, attempts, "
            "created_at, run_after, started_at, completed_at) values (%(image)s, %(user)s, 'upscale', %(engine)s, "
            "%(status)s, %(attempts)s, '2001-01-02Z', %(due)s, %(due)s::timestamptz + %(wait)s * interval '1 second', "
            "%(due)s::timestamptz + (coalesce(%(wait)s, 0) + %(run)s) * interval '1 second')",
            {"image": image, "user": ann.person.id, "engine": engine, "status": status}
            | {"attempts": attempts, "due": due, "wait": wait, "run": run},
        )

    for wait, run in ((1, 10), (2, 20), (3, 30)):
        operation("waifu2x", "completed", wait, run)
    operation("waifu2x", "failed", 4, 1000, attempts=3)
    operation("waifu2x", "cancelled", 500, 500)
    operation("unassigned", "failed", None, 0)
    rows = world.people.service.rows("stats_engines", p_from="2001-01-02Z", p_to="2001-01-03Z")
    assert [tuple(row.values()) for row in rows] == [
        ("unassigned", "upscale", 0, 1, 1, 0, None, None, None, None),
        ("waifu2x", "upscale", 3, 1, money("0.25"), 1, money("2.5"), money("3.85"), 20, 29),
    ]
    for first, last in (("2001-01-03Z", "2001-01-04Z"), ("2001-01-01Z", "2001-01-02Z")):
        assert world.people.service.rows("stats_engines", p_from=first, p_to=last) == []
    with refused("PT400"):
        world.people.service.rows("stats_engines", p_from="2001-01-03Z", p_to="2001-01-03Z")


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_for_active_admins_and_operators(people: People, figure: str) -> None:
    people.service.rows(figure)
    people.new(is_admin=True).rows(figure)
    for person in (people.new(), people.new(is_admin=True, is_active=False)):
        with refused("PT403", "Only an admin"):
            person.rows(figure)
    with refused("42501"):
        people.anon.rows(figure)


def test_an_admin_sees_what_the_operator_sees(world: World) -> None:
    ann = world.sign_up("2001-01-01Z")
    admin = world.people.new(is_admin=True)
    grant = world.grant(ann, 10, "2001-01-02Z", "7.99", "USD")
    world.charge(ann, "upscale", "2001-01-02Z", {grant: 1})
    world.people.image(ann.person)
    for counted in (False, True):
        if counted:
            count(world.people)
        for figure in MONTHLY:
            period = {"p_first_month": FIRST, "p_last_month": LAST}
            assert admin.rows(figure, **period) == world.people.service.rows(figure, **period) != []


def test_nobody_else_reads_the_totals_and_nobody_but_the_operator_counts(people: People) -> None:
    user, admin = people.new(), people.new(is_admin=True)
    for table in ("counted_days", "daily_sales", "daily_operations", "active_months", "closed_account_operations"):
        assert user.sql(f"select * from private.{table}") == []
        with refused("42501"):
            people.anon.sql(f"select * from private.{table}")
        with refused("42501"):
            people.service.sql(f"delete from private.{table}")
    for person in (user, admin):
        with refused("42501"):
            person.call("refresh_stats")


@pytest.mark.parametrize("figure", MONTHLY)
@pytest.mark.parametrize(
    ("first", "last"),
    [("2001-02-01", "2001-01-31"), ("1998-01-31", "2001-01-01"), ("-infinity", None), (None, "infinity")],
)
def test_a_period_has_a_month_to_three_years(people: People, figure: str, first: str | None, last: str | None) -> None:
    with refused("PT400", "The period must have 1 to 36 months"):
        people.service.rows(figure, p_first_month=first, p_last_month=last)


def test_without_a_period_it_is_the_last_twelve_months(world: World) -> None:
    world.sign_up("2001-01-31 23:59:59Z")
    ends = {"2001-12-31": [JANUARY], "2002-01-01": []}
    for last, months in ends.items():
        rows = world.people.service.rows("stats_funnel", p_last_month=last)
        assert [row["month"] for row in rows] == months
    world.sign_up("now")
    assert world.people.service.rows("stats_funnel")[-1]["signed_up"] >= 1


def test_the_views_of_the_seed_count_images_and_purchases(world: World) -> None:
    ann = world.sign_up("2001-01-01Z")
    image = world.people.image(ann.person)
    world.people.image(ann.person, "b.png")
    world.db.execute("update public.images set processing_status = 'failed' where id = %s", (image,))
    world.grant(ann, 10, "2001-01-31 23:59:59Z", "7.99", "USD")
    (row,) = ann.person.sql("select * from public.user_analytics")
    assert (row["total_images"], row["completed_images"], row["failed_images"]) == (2, 0, 1)
    assert row["last_image_created"] is not None
    (row,) = ann.person.sql(
        "select extract(month from month at time zone 'UTC') as month, total_credits, paid_transactions "
        "from public.revenue_analytics"
    )
    assert tuple(row.values()) == (1, 10, 1)
