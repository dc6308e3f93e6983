"""The schema keeps every table, column, type, value, index, view and trigger it started from."""

import re

import pytest

from tests.database.personas import Connection, People
from tests.database.seed_schema import (
    ALLOWED_VALUES,
    ARGUMENTS,
    CHECKING_FUNCTIONS,
    CREDIT_FUNCTIONS,
    INDEXES,
    TABLES,
    UPDATED_AT_TRIGGERS,
    VIEWS,
    columns_of,
)

# Columns that only functions write, which move updated_at themselves.
WRITTEN_WITHOUT_TRIGGER = {
    "profiles": "credits_remaining total_credits_purchased total_credits_used credit_debt ledger_version",
    "images": "",
}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_there_with_its_type(db: Connection, table: str) -> None:
    rows = db.execute(
        "select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped",
        (f"public.{table}",),
    ).fetchall()
    actual = {row["name"]: row["type"].replace("timestamp with time zone", "timestamptz") for row in rows}
    expected = {name: type_name for name, (type_name, _, _) in columns_of(table).items()}
    assert actual | expected == actual


@pytest.mark.parametrize("column", ALLOWED_VALUES)
def test_every_allowed_value_is_still_allowed(db: Connection, column: str) -> None:
    table, name = column.split(".")
    checks = db.execute(
        "select pg_get_constraintdef(oid) as text from pg_constraint where conrelid = %s::regclass and contype = 'c'"
        " and conkey = array[(select attnum from pg_attribute where attrelid = conrelid and attname = %s)]",
        (f"public.{table}", name),
    ).fetchall()
    if function := CHECKING_FUNCTIONS.get(column):
        checks += db.execute("select prosrc as text from pg_proc where oid = %s::regproc", (function,)).fetchall()
    text = " ".join(check["text"] for check in checks)
    allowed = {value for found in re.findall(r"'\{?([\w,]+)\}?'", text) for value in found.split(",")}
    if column == "image_operations.operation_type":  # a foreign key to rows
        allowed = {row["name"] for row in db.execute("select name from public.operation_types where is_builtin")}
    assert allowed >= set(ALLOWED_VALUES[column].split())


def test_every_index_is_there_and_leads_with_its_column(db: Connection) -> None:
    rows = db.execute("select indexname, indexdef from pg_indexes where schemaname = 'public'").fetchall()
    actual = {
        row["indexname"]: re.sub(r".* ON public\.(\w+) USING btree \((\w+).*", r"\1(\2)", row["indexdef"])
        for row in rows
    }
    assert actual | INDEXES == actual


@pytest.mark.parametrize("table", WRITTEN_WITHOUT_TRIGGER)
def test_updated_at_moves_with_every_column_but_those_of_functions_that_move_it(db: Connection, table: str) -> None:
    rows = db.execute(
        "select attname as name from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped and not exists ("
        "   select from pg_trigger where tgrelid = attrelid"
        "   and tgfoid = 'public.update_updated_at_column'::regproc and attnum = any (tgattr)"
        " )",
        (f"public.{table}",),
    ).fetchall()
    assert {row["name"] for row in rows} == {"updated_at", *WRITTEN_WITHOUT_TRIGGER[table].split()}


def test_the_ledger_moves_updated_at_of_its_profile(people: People) -> None:
    user = people.new()
    for function, kind in (("deduct_user_credits", "usage"), ("add_user_credits", "bonus")):
        people.connection.execute("update public.profiles set updated_at = '2000-01-01' where id = %s", (user.id,))
        people.service.call(function, p_user_id=user.id, p_amount=1, p_transaction_type=kind)
        (profile,) = user.sql("select updated_at from public.profiles")
        assert profile["updated_at"].year > 2000


def test_updated_at_of_an_image_moves_when_a_service_writes_its_results(people: People) -> None:
    image = people.image(people.new())
    update = f"update public.images set {{}} where id = '{image}' returning updated_at"
    for change in ("processing_status = 'completed'", "processed_url = 'results/a.png'", "processing_error = 'none'"):
        people.connection.execute(update.format("updated_at = '2000-01-01'"))
        (row,) = people.service.sql(update.format(change))
        assert row["updated_at"].year > 2000


def test_every_updated_at_trigger_is_there(db: Connection) -> None:
    rows = db.execute(
        "select tgname, tgrelid::regclass::text as name from pg_trigger"
        " where tgfoid = 'public.update_updated_at_column'::regproc"
    ).fetchall()
    actual = {row["tgname"]: row["name"].removeprefix("public.") for row in rows}
    assert actual | UPDATED_AT_TRIGGERS == actual


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_its_columns(db: Connection, view: str) -> None:
    cursor = db.execute(f"select * from public.{view} limit 0")
    assert [column.name for column in cursor.description or []] == VIEWS[view].split()


def test_an_update_moves_updated_at(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute(
            "insert into public.email_templates (name, subject, html_content, updated_at)"
            " values ('t', 's', 'h', '2000-01-01')"
        )
        db.execute("update public.email_templates set subject = 'x' where name = 't'")
        (row,) = db.execute(
            "select updated_at > '2001-01-01' as moved from public.email_templates where name = 't'"
        ).fetchall()
    assert row["moved"]


def test_buckets_are_private_or_public_with_their_limits(db: Connection) -> None:
    rows = db.execute("select id, public, file_size_limit from storage.buckets").fetchall()
    actual = {row["id"]: (row["public"], row["file_size_limit"]) for row in rows}
    assert actual["originals"] == (False, 50 * 1024 * 1024)
    assert actual["results"] == (False, None)
    assert actual["avatars"] == (True, 5 * 1024 * 1024)


@pytest.mark.parametrize("function", CREDIT_FUNCTIONS)
def test_every_credit_function_takes_its_arguments_first_and_answers_with_the_balance(
    db: Connection, function: str
) -> None:
    (row,) = db.execute(
        "select pg_get_function_arguments(oid) as arguments, prorettype::regtype::text as type from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname = %s",
        (function,),
    ).fetchall()
    assert row["arguments"].startswith(ARGUMENTS)
    assert row["type"] == "integer"
