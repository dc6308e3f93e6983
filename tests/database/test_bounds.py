"""Every column that a browser may write has an end, and its owner is told of it where a project broadcasts.

What browsers may write is read from the catalog, so a new column is found by itself. Each is tried for real, by whoever
may write it, on the rows of the persona matrix.
"""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.database.matrix import Subject, World, build
from tests.database.personas import Connection, People, Person, Row

WRITABLE = """
select
    n.nspname as schema, c.relname as table, a.attname as column, p.privilege,
    format_type(a.atttypid, a.atttypmod) as type
from pg_attribute as a
inner join pg_class as c on c.oid = a.attrelid
inner join pg_namespace as n on n.oid = c.relnamespace
cross join unnest(array['insert', 'update']) as p (privilege)
where
    n.nspname in ('public', 'private') and c.relkind in ('r', 'p', 'v', 'f') and a.attnum > 0 and not a.attisdropped
    and has_column_privilege('authenticated', c.oid, a.attnum, p.privilege)
order by n.nspname, c.relname, a.attnum, p.privilege
"""
LONG = "x" * 200_000
SHORTEN = "bound it: private.bound_lengths for texts and JSON, a check for numbers and dates"
TELL = "tell its owner: see the triggers in supabase/migrations/*_realtime.sql"
# What a number of digits beyond those of the type would be is refused by the type.
BOUNDED_BY_TYPE = {"boolean", "uuid"}
INTEGERS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


def swollen(value: Any) -> Iterator[Any]:
    """A JSON value with each of its parts, one after the other, far larger than anybody means."""
    if isinstance(value, dict):
        yield value | {f"more_{number}": 1 for number in range(100_000)}
        for key, part in value.items():
            yield from (value | {key: larger} for larger in swollen(part))
    elif isinstance(value, list):
        yield value * (200_000 // max(len(value), 1))
        for place, part in enumerate(value):
            yield from ([*value[:place], larger, *value[place + 1 :]] for larger in swollen(part))
    elif isinstance(value, str):
        yield value + LONG


def excesses(type_name: str, there: Any) -> list[Any]:
    """Values that nobody means, of a column's type; those of texts and JSON also begin as the one that is there."""
    if type_name == "text":
        return [LONG, f"{there or ''}{LONG}"]
    if type_name == "jsonb":
        # Numbers such as 1e131071 are small in a row and huge when somebody reads them.
        plain = [json.dumps(value) for value in ({"x": LONG * 15}, [LONG * 15], *swollen(there))]
        return [*plain, f"[{', '.join(['1e131071'] * 5_000)}]"]
    if type_name in INTEGERS:
        return [INTEGERS[type_name], -INTEGERS[type_name]]
    if type_name.startswith("numeric("):
        digits, scale = map(int, type_name.removeprefix("numeric(").removesuffix(")").split(","))
        return [f"{'9' * (digits - scale)}.{'9' * scale}", "NaN"]
    if type_name == "date" or type_name.startswith("timestamp"):
        return ["infinity", "-infinity", "5874897-12-31" if type_name == "date" else "294276-12-31"]
    if type_name in BOUNDED_BY_TYPE:
        return []
    raise LookupError(f"Nobody knows what is too much of {type_name}: say so in {__file__}")


def take(person: Person, statement: sql.Composed, parameters: Row) -> str:
    """What becomes of a statement: done, refused, or not this person's to do."""
    try:
        with person.trying() as connection:
            return "done" if connection.execute(statement, parameters).rowcount else "not his"
    except (psycopg.errors.CheckViolation, psycopg.errors.ForeignKeyViolation):
        return "refused"
    except psycopg.errors.UniqueViolation:
        return "done"  # asked last of all
    except psycopg.errors.InsufficientPrivilege:
        return "not his"
    except psycopg.DatabaseError as error:
        if error.diag.sqlstate in ("PT400", "PT413"):
            return "refused"
        raise


def statement_of(subject: Subject, privilege: str, column: str, value: Any = None) -> tuple[sql.Composed, Row]:
    """The insert or update of a row, and its parameters; without a value it changes nothing about the column."""
    name = sql.Identifier(subject.schema, subject.table)
    if privilege == "insert":
        row = subject.new if value is None else subject.new | {column: value}
        places = [sql.Placeholder(item) for item in row]
        return sql.SQL("insert into {} ({}) values ({})").format(
            name, sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(places)
        ), row
    new = sql.Identifier(column) if value is None else sql.Placeholder("value")
    where = [sql.SQL("{} = {}").format(sql.Identifier(key), sql.Placeholder(f"key_{key}")) for key in subject.key]
    return sql.SQL("update {} set {} = {} where {}").format(
        name, sql.Identifier(column), new, sql.SQL(" and ").join(where)
    ), {f"key_{key}": part for key, part in subject.key.items()} | ({} if value is None else {"value": value})


def columns(world: World, db: Connection, table: str) -> Iterator[tuple[Row, Subject]]:
    """The columns that browsers may write, of one table or of all, with a subject to try each on."""
    subjects = {f"{subject.schema}.{subject.table}": subject for subject in reversed(world.subjects["owner"])}
    for column in db.execute(WRITABLE).fetchall():
        name = f"{column['schema']}.{column['table']}"
        if table in ("", name):
            yield column, subjects[name]


def unbounded(world: World, db: Connection, table: str = "") -> list[str]:
    """The columns that take too much."""
    found = []
    for column, subject in columns(world, db, table):
        name, privilege = column["column"], column["privilege"]
        (row,) = db.execute(*statement_to_read(subject, name)).fetchall()
        writers = [
            person
            for person in (world.personas["owner"], world.personas["admin"])
            if take(person, *statement_of(subject, privilege, name)) == "done"
        ]
        assert writers, f"Nobody could be found who may {privilege} {subject.title}.{name}"
        for person in writers:
            for value in excesses(column["type"], row["value"]):
                if take(person, *statement_of(subject, privilege, name, value)) == "done":
                    found.append(f"{privilege} {subject.title}.{name} takes {str(value)[:20]}…: {SHORTEN}")
    return found


def statement_to_read(subject: Subject, column: str) -> tuple[sql.Composed, Row]:
    """The value of a column in the subject's row."""
    where = [sql.SQL("{} = {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in subject.key]
    return sql.SQL("select {} as value from {} where {}").format(
        sql.Identifier(column), sql.Identifier(subject.schema, subject.table), sql.SQL(" and ").join(where)
    ), subject.key


def untold(world: World, db: Connection, table: str = "") -> list[str]:
    """The columns of an owner's own rows that he may write without anything being sent on his topic."""
    owner, found = world.personas["owner"], []
    for column, subject in columns(world, db, table):
        statement, parameters = statement_of(subject, column["privilege"], column["column"])
        if take(owner, statement, parameters) != "done":
            continue  # an admin's to write: there is nobody whose topic that would be
        with owner.trying() as connection:
            connection.execute(statement, parameters)
            connection.execute("reset role")
            told = connection.execute("select from realtime.messages where topic = %s", (f"user:{owner.id}",))
            if not told.rowcount:
                found.append(f"{column['privilege']} {subject.title}.{column['column']}: {TELL}")
    return found


@pytest.fixture(scope="module")
def world(people: People, db: Connection) -> Iterator[World]:
    world = build(people)
    yield world
    world.remove(db)


def test_no_column_that_a_browser_may_write_takes_too_much(world: World, db: Connection) -> None:
    assert unbounded(world, db) == []


def test_a_column_without_a_bound_is_found(world: World, db: Connection) -> None:
    with db.transaction(force_rollback=True):
        assert unbounded(world, db, "public.images") == []
        db.execute("alter table public.images add column notes text")
        db.execute("grant update (notes) on public.images to authenticated")
        # Once for each of the values, and for each of the two who may write it.
        assert {line.partition(" takes ")[0] for line in unbounded(world, db, "public.images")} == {
            "update public.images.notes"
        }
        db.execute(
            "create trigger bound_notes before insert or update of notes on public.images"
            " for each row execute function private.bound_lengths('notes', 0, 2000)"
        )
        assert unbounded(world, db, "public.images") == []


def test_owners_are_told_of_every_column_that_they_may_write(world: World, db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("select private.broadcast_to_users(true)")
        assert untold(world, db) == []


def test_a_column_that_nobody_is_told_of_is_found(world: World, db: Connection) -> None:
    with db.transaction(force_rollback=True):
        db.execute("select private.broadcast_to_users(true)")
        assert untold(world, db, "public.images") == []
        db.execute("alter table public.images add column notes text")
        db.execute("grant update (notes) on public.images to authenticated")
        (line,) = untold(world, db, "public.images")
        assert line.startswith("update public.images.notes: ")
