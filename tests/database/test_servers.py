"""The migrations on every server: applied in order and once, to the same schema, and sound to plpgsql_check."""

import difflib
from typing import Any

import psycopg
import pytest

from local import supabase_cli
from local.stack import PROJECT, Stack
from local.state import StackState
from tests.database import servers
from tests.database.personas import Connection, connect

MIGRATIONS = PROJECT / "supabase" / "migrations"

# Every object of the migrations with its definition, as text that is the same on every version of Postgres.
DEFINITIONS = r"""
with objects as (
    select c.oid, c.oid::regclass::text as name, c.relkind
    from pg_class as c
    where c.relnamespace = any ('{public,private}'::regnamespace[])
)
select format('column %s.%s %s %s default %s', o.name, a.attname, format_type(a.atttypid, a.atttypmod),
    case when a.attnotnull then 'not null' end, pg_get_expr(d.adbin, d.adrelid)) as definition
from objects as o
inner join pg_attribute as a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = o.oid and d.adnum = a.attnum
where o.relkind in ('r', 'p')
union all
select format('constraint %s on %s %s', k.conname, o.name, pg_get_constraintdef(k.oid))
from objects as o
inner join pg_constraint as k on k.conrelid = o.oid
where k.contype <> 'n' -- Postgres 18 lists what `not null` says above
union all
select pg_get_indexdef(o.oid) from objects as o where o.relkind in ('i', 'I')
union all
select pg_get_triggerdef(t.oid) from pg_trigger as t where not t.tgisinternal
union all
select format('policy %s on %s %s to %s using %s check %s', policyname, tablename, cmd, roles, qual, with_check)
from pg_policies
union all
-- Postgres 15 writes the table before every column, newer ones where it is needed.
select format('view %s %s', o.name, regexp_replace(pg_get_viewdef(o.oid), '\m[a-z_]+\.(?=[a-z])', '', 'g'))
from objects as o
where o.relkind in ('v', 'm')
union all
select pg_get_functiondef(f.oid) from pg_proc as f where f.pronamespace = any ('{public,private}'::regnamespace[])
union all
select format('published %s', tablename) from pg_publication_tables where pubname = 'supabase_realtime'
order by 1
"""

# Trigger functions are checked once for each table that they serve; those of no table are dead.
FINDINGS = """
select f.oid::regprocedure::text as function, t.tgrelid::regclass::text as table_name, finding
from pg_proc as f
inner join pg_language as l on l.oid = f.prolang and l.lanname = 'plpgsql'
left join pg_trigger as t on t.tgfoid = f.oid and not t.tgisinternal
cross join lateral extensions.plpgsql_check_function(
    f.oid::regprocedure, coalesce(t.tgrelid, 0)::regclass,
    extra_warnings => true, security_warnings => true, oldtable => t.tgoldtable, newtable => t.tgnewtable
) as finding
where f.pronamespace = any ('{public,private}'::regnamespace[])
order by 1, 2
"""


def definitions(db_url: str) -> list[str]:
    with connect(db_url) as connection:
        # Names are written with their schema unless it is on the path.
        connection.execute("set search_path = ''")
        rows = connection.execute(DEFINITIONS.replace("regnamespace", "pg_catalog.regnamespace")).fetchall()
    return [row["definition"] for row in rows]


def history(db: Connection) -> list[dict[str, Any]]:
    return db.execute(
        "select m.version, m.name, null as hash from supabase_migrations.schema_migrations as m"
        " union all select null, s.path, s.hash from supabase_migrations.seed_files as s order by 1, 2"
    ).fetchall()


def test_a_container_is_one_of_the_servers() -> None:
    """The database tests run in a container of their own accord; where they do not, this says why."""
    trouble = servers.container_trouble()
    if trouble:
        pytest.skip(trouble)


def test_every_migration_was_applied_once_and_in_order(db: Connection) -> None:
    applied = db.execute(
        "select version || '_' || name || '.sql' as file from supabase_migrations.schema_migrations order by version"
    ).fetchall()
    assert [row["file"] for row in applied] == sorted(path.name for path in MIGRATIONS.glob("*.sql"))


def test_applying_the_migrations_again_changes_nothing(server: StackState, db: Connection) -> None:
    before = history(db), definitions(server.db_url), db.execute("select * from public.operation_types").fetchall()
    supabase_cli.push(PROJECT, server.db_url)
    after = history(db), definitions(server.db_url), db.execute("select * from public.operation_types").fetchall()
    assert after == before


def test_the_schema_is_the_same_on_every_server(server: StackState, request: pytest.FixtureRequest) -> None:
    stack: Stack = request.getfixturevalue("local_stack")
    expected, actual = definitions(stack.state.db_url), definitions(server.db_url)
    difference = difflib.unified_diff(
        "\n".join(expected).splitlines(), "\n".join(actual).splitlines(), "Postgres 17", "this server", n=1, lineterm=""
    )
    assert not list(difference)


def test_plpgsql_check_finds_nothing(server: StackState) -> None:
    with psycopg.connect(server.admin_url) as connection:
        available = connection.execute(
            "select default_version from pg_available_extensions where name = 'plpgsql_check'"
        ).fetchone()
        if available is None:
            pytest.skip("This server has no plpgsql_check; the container images of tests/database/servers.py have it.")
        connection.execute("create extension if not exists plpgsql_check with schema extensions")
        findings = connection.execute(FINDINGS).fetchall()
        connection.rollback()
    assert findings == [], "\n".join(" ".join(str(value) for value in finding) for finding in findings)
