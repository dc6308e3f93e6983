"""docs/seed.md lists what became different of the schema that the project started from: all of it, and nothing else."""

import re

import pytest

from local.stack import PROJECT
from tests.database.personas import Connection
from tests.database.seed_schema import (
    ALLOWED_VALUES,
    INDEXES,
    KEYS,
    POLICIES,
    TABLES,
    UPDATED_AT_TRIGGERS,
    columns_of,
)

PAGE = PROJECT / "docs" / "seed.md"

COLUMNS = """
select a.attname as name, a.attnotnull as is_not_null, replace(pg_get_expr(d.adbin, d.adrelid), '::text', '') as value
from pg_attribute as a
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
"""
CONSTRAINTS = """
select
    c.relname || ' ' || replace(pg_get_constraintdef(k.oid), 'public.', '') as text, k.contype as kind,
    c.relname || '.' || a.attname as name
from pg_constraint as k
inner join pg_class as c on c.oid = k.conrelid
left join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.conkey[1] and cardinality(k.conkey) = 1
where k.connamespace = 'public'::regnamespace
"""
INDEX = "create index {} on public.{} using btree ({})"
TRIGGER = "create trigger {} before update on public.{} for each row execute function public.update_updated_at_column()"


def written() -> dict[str, dict[str, str]]:
    """What the page lists: by section, what it is about and the rest of the row."""
    sections: dict[str, dict[str, str]] = {}
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        rows = re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE)
        sections[title] = {key: rest for keys, rest in rows for key in re.findall(r"`(.*?)`", keys)}
    return sections


def not_null(db: Connection) -> set[str]:
    return {
        f"{table}.{row['name']}"
        for table in TABLES
        for row in db.execute(COLUMNS, (f"public.{table}",)).fetchall()
        if row["name"] in columns_of(table) and row["is_not_null"] != columns_of(table)[row["name"]][1]
    }


def defaults(db: Connection) -> set[str]:
    return {
        f"{table}.{row['name']}: {row['value']}"
        for table in TABLES
        for row in db.execute(COLUMNS, (f"public.{table}",)).fetchall()
        if row["name"] in columns_of(table) and row["value"] != columns_of(table)[row["name"]][2]
    }


def keys_and_checks(db: Connection) -> set[str]:
    rows = db.execute(CONSTRAINTS).fetchall()
    checks = {
        row["name"]: set(re.findall(r"'(\w+)'", row["text"]))
        for row in rows
        if row["kind"] == "c" and "ANY" in row["text"]
    }
    return {key for key in KEYS if key not in {row["text"] for row in rows}} | {
        column for column, values in ALLOWED_VALUES.items() if checks.get(column) != set(values.split())
    }


def indexes(db: Connection) -> set[str]:
    rows = db.execute(
        "select indexname as name, indexdef as text from pg_indexes where schemaname = 'public'"
    ).fetchall()
    ours = {row["name"]: row["text"].lower() for row in rows}
    return {
        name
        for name, columns in INDEXES.items()
        if ours[name] != INDEX.format(name, *columns.removesuffix(")").split("("))
    }


def triggers(db: Connection) -> set[str]:
    rows = db.execute("select tgname as name, lower(pg_get_triggerdef(oid)) as text from pg_trigger").fetchall()
    ours = {row["name"]: row["text"].replace("function update", "function public.update") for row in rows}
    return {name for name, table in UPDATED_AT_TRIGGERS.items() if ours[name] != TRIGGER.format(name, table)}


def policies(db: Connection) -> set[str]:
    rows = db.execute("select tablename || ': ' || policyname as name from pg_policies").fetchall()
    ours = {row["name"] for row in rows}
    return {name for table, names in POLICIES.items() for policy in names if (name := f"{table}: {policy}") not in ours}


def withheld(db: Connection) -> set[str]:
    """What the document's policies let admins write, and the grants do not."""
    found = set()
    for table in POLICIES:
        for action in ("insert", "update"):
            columns = [
                column
                for column in columns_of(table)
                if not db.execute(
                    "select has_column_privilege('authenticated', %s, %s, %s) as may",
                    (f"public.{table}", column, action),
                ).fetchall()[0]["may"]
            ]
            if columns:
                every = len(columns) == len(columns_of(table))
                found.add(f"{action} {table}" + ("" if every else f" ({', '.join(columns)})"))
        (row,) = db.execute(
            "select has_table_privilege('authenticated', %s, 'delete') as may", (f"public.{table}",)
        ).fetchall()
        if not row["may"]:
            found.add(f"delete {table}")
    return found


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ("Not null", not_null),
        ("Defaults", defaults),
        ("Keys and checks", keys_and_checks),
        ("Indexes", indexes),
        ("Triggers", triggers),
        ("Policies", policies),
        ("What admins do not write", withheld),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_page_lists_every_difference_with_its_reason(db: Connection, section: str, found: object) -> None:
    listed = written()[section]
    assert callable(found)
    assert set(listed) == found(db)
    assert all(len(reason) > 20 for reason in listed.values()), "Each has its reason"


def test_the_policies_that_took_over_are_there(db: Connection) -> None:
    rows = db.execute("select tablename as table, policyname as name from pg_policies").fetchall()
    ours = {(row["table"], row["name"]) for row in rows}
    for policy, rest in written()["Policies"].items():
        successors = {(policy.partition(":")[0], name) for name in re.findall(r"`(.*?)`", rest)}
        assert successors <= ours
        assert successors or policy == "credit_transactions: System can insert transactions"
