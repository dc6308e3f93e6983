"""The currency of the catalogue: one for all prices, and each price is an amount in it."""

from decimal import Decimal

import pytest

from services.billing.money import THREE_DECIMAL, ZERO_DECIMAL
from tests.database.personas import Connection, People, Person, refused


def test_the_database_and_the_billing_service_count_the_same_decimals(db: Connection) -> None:
    codes = [*sorted(ZERO_DECIMAL | THREE_DECIMAL), "USD", "EUR", "eur", "jpy"]
    rows = db.execute(
        "select c, private.currency_digits(c) as digits from unnest(%s::text[]) as c", (codes,)
    ).fetchall()
    expected = {code: 0 if code.upper() in ZERO_DECIMAL else 3 if code in THREE_DECIMAL else 2 for code in codes}
    assert {row["c"]: row["digits"] for row in rows} == expected
    (source,) = db.execute("select prosrc from pg_proc where oid = 'private.currency_digits'::regproc").fetchall()
    assert source["prosrc"].count("'") == 2 * len(ZERO_DECIMAL | THREE_DECIMAL), "none that the service does not know"


@pytest.mark.parametrize(
    ("amount", "currency", "printed"),
    [
        ("7.99", "USD", "$7.99"),
        ("1234", "JPY", "¥1,234"),
        ("1234", "KRW", "1,234 KRW"),
        ("7.5", "KWD", "7.500 KWD"),
        ("7.99", "EUR", "€7.99"),
    ],
)
def test_mails_print_the_decimals_of_the_currency(db: Connection, amount: str, currency: str, printed: str) -> None:
    row = db.execute("select private.printed_money(%s, %s) as money", (Decimal(amount), currency)).fetchone()
    assert row == {"money": printed}


def test_a_price_that_the_currency_does_not_have_is_refused(people: People, db: Connection) -> None:
    admin = people.new(is_admin=True)
    with refused("PT400", "is no amount in JPY"):
        admin.sql("update public.catalogue_settings set currency = 'JPY'")
    with db.transaction(force_rollback=True):
        db.execute("update public.subscription_plans set monthly_price = round(monthly_price)")
        db.execute("update public.pay_as_you_go_packages set price = round(price)")
        admin.sql("update public.catalogue_settings set currency = 'JPY'")
        with refused("PT400", "The price of basic, 9.99, is no amount in JPY"), db.transaction():
            admin.sql("update public.subscription_plans set monthly_price = 9.99 where name = 'basic'")


def test_everybody_reads_the_currency_and_admins_change_it(people: People) -> None:
    user, anonymous = people.new(), Person(people.connection, "anon")
    for person in (user, anonymous):
        assert person.sql("select currency from public.catalogue_settings") == [{"currency": "USD"}]
    assert user.sql("update public.catalogue_settings set currency = 'EUR' returning currency") == []
    with refused("23514"):
        people.new(is_admin=True).sql("update public.catalogue_settings set currency = 'Euro'")
