"""Plans that nobody pays for: their credits, their end, and who has one already."""

from typing import Any

import pytest

from tests.database.personas import UNKNOWN, Connection, People, Person, refused


def logged(db: Connection, user: Person) -> list[tuple[str, Any]]:
    rows = db.execute(
        "select * from public.admin_logs where target_user_id = %s order by created_at, action", (user.id,)
    ).fetchall()
    assert all(row["actor_id"] is None for row in rows)
    return [(row["action"], row["details"]) for row in rows]


def comp(people: People, user: Person, **arguments: Any) -> Any:
    return people.service.call(
        "admin_comp_subscription",
        **{"p_user_id": user.id, "p_plan": "basic", "p_months": 2, "p_reason": "press"} | arguments,
    )


def plan(user: Person) -> tuple[str, str]:
    (row,) = user.sql("select subscription_status, subscription_plan from public.profiles")
    return row["subscription_status"], row["subscription_plan"]


@pytest.fixture(autouse=True)
def _sound(people: People) -> Any:
    yield
    assert people.service.rows("verify_ledger") == []


def test_a_comped_plan_gives_its_credits_and_ends_by_itself(people: People, db: Connection) -> None:
    user = people.new()
    row = comp(people, user)
    assert (row["status"], row["stripe_subscription_id"]) == ("active", None)
    assert (people.balance(user), plan(user)) == (42, ("basic", "basic"))
    grants = user.sql("select expires_at - created_at as lasts, money_amount from public.credit_grants order by seq")
    assert [round(grant["lasts"].days / 30) for grant in grants[1:]] == [2, 3], "a month later than the month's end"
    assert user.sql("select total_credits_purchased as n from public.profiles") == [{"n": 0}]
    assert logged(db, user) == [("admin_comp_subscription", {"plan": "basic", "months": 2, "reason": "press"})]

    people.service.call("end_comped_subscriptions")
    assert plan(user) == ("basic", "basic")
    db.execute("update public.subscription_history set ended_at = now() where id = %s", (row["id"],))
    assert people.service.call("end_comped_subscriptions") >= 1
    assert plan(user) == ("cancelled", "free")
    assert people.balance(user) == 42


@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ({"p_user_id": UNKNOWN}, "PT404"),
        ({"p_plan": "free"}, "PT404"),
        ({"p_plan": "nothing"}, "PT404"),
        ({"p_months": 0}, "PT400"),
        ({"p_months": None}, "PT400"),
        ({"p_reason": " "}, "PT400"),
    ],
    ids=str,
)
def test_a_wrong_comp_is_refused(people: People, wrong: dict[str, Any], sqlstate: str) -> None:
    user = people.new()
    with refused(sqlstate):
        comp(people, user, **wrong)
    assert plan(user) == ("free", "free")


def test_a_plan_that_is_not_offered_is_not_given_away(people: People, db: Connection) -> None:
    db.execute("update public.subscription_plans set is_active = false where name = 'basic'")
    try:
        with refused("PT404"):
            comp(people, people.new())
    finally:
        db.execute("update public.subscription_plans set is_active = true where name = 'basic'")


def test_who_has_a_plan_gets_no_second_one(people: People) -> None:
    user = people.new()
    comp(people, user)
    with refused("PT409", "already has a subscription"):
        comp(people, user, p_plan="starter")


def test_only_the_operator_ends_them(people: People) -> None:
    for person in (people.anon, people.new(), people.new(is_admin=True)):
        with refused("42501"):
            person.call("end_comped_subscriptions")
