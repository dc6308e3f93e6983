"""The catalog against the written expectation, and the rules that every object follows."""

import difflib

from local.stack import PROJECT
from tests.database.catalog import EXPECTED, FUNCTIONS, ROLES, TABLES, describe
from tests.database.personas import Connection


def test_grants_policies_and_functions_are_exactly_those_in_catalog_txt(db: Connection) -> None:
    expected, actual = EXPECTED.read_text().splitlines(), describe(db).splitlines()
    difference = "\n".join(difflib.unified_diff(expected, actual, "catalog.txt", "database", n=2, lineterm=""))
    assert not difference, f"{difference}\nIf it is meant: python -m tests.database.catalog <db_url> > {EXPECTED}"


def test_every_table_has_row_level_security_and_a_comment(db: Connection) -> None:
    for table in db.execute(TABLES).fetchall():
        assert table["has_rls"] or table["is_sequence"] or (table["is_view"] and table["is_invoker"]), table["name"]
        (comment,) = db.execute("select obj_description(%s, 'pg_class') as text", (table["oid"],)).fetchall()
        assert comment["text"], table["name"]


def test_every_role_and_action_has_at_most_one_permissive_policy(db: Connection) -> None:
    doubled = db.execute(
        """
        select polrelid::regclass::text as name, polcmd, role, count(*)
        from pg_policy, unnest(polroles) as role
        where polpermissive
        group by polrelid, polcmd, role
        having count(*) > 1 or polcmd = '*' or role = 0
        """
    ).fetchall()
    assert doubled == []


def test_policies_call_auth_and_helpers_once_for_each_statement(db: Connection) -> None:
    bare = db.execute(
        r"""
        select polrelid::regclass::text as name, polname
        from pg_policy
        cross join concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) as expression
        where regexp_replace(expression, 'SELECT (auth|private)\.', '', 'g') ~ '(auth|private)\.'
        """
    ).fetchall()
    assert bare == []


def test_every_foreign_key_is_indexed(db: Connection) -> None:
    missing = db.execute(
        """
        select c.conrelid::regclass::text as name, c.conname
        from pg_constraint as c
        inner join pg_class as t on t.oid = c.conrelid and t.relnamespace = 'public'::regnamespace
        where c.contype = 'f' and not exists (
            select 1 from pg_index as i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1]
        )
        """
    ).fetchall()
    assert missing == []


# What somebody who is not signed in may execute: reading what others published.
OPEN_TO_VISITORS = ("is_public_collection(", "is_published_object(", "public_collection_images(")


def test_every_function_fixes_its_search_path_and_none_is_open_to_everybody(db: Connection) -> None:
    for function in db.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall():
        assert 'search_path=""' in (function["settings"] or []), function["name"]
        assert not function["has_default_acl"], function["name"]
        executors = set(function["executors"] or [])
        assert "public" not in executors, function["name"]
        opened = function["name"].partition(".")[2].startswith(OPEN_TO_VISITORS)
        assert ("anon" in executors) == opened, function["name"]


def test_what_a_migration_leaves_open_is_closed_and_nothing_else(admin: Connection) -> None:
    # A superuser's functions are open to everybody: so are those of any role that did not run the first migration.
    with admin.transaction(force_rollback=True):
        before = describe(admin)
        admin.execute("create function private.left_open() returns integer language sql as 'select 1'")
        admin.execute("create function public.left_open() returns integer language sql as 'select 1'")
        admin.execute("create table public.left_open (id integer)")
        admin.execute("grant execute on function public.left_open() to public")
        admin.execute("grant all on public.left_open to anon, authenticated, service_role")
        admin.execute("select private.close_api()")
        for role in ("anon", "authenticated", "service_role"):
            (row,) = admin.execute(
                "select has_function_privilege(%(role)s, 'private.left_open()', 'execute')"
                " or has_function_privilege(%(role)s, 'public.left_open()', 'execute')"
                " or has_table_privilege(%(role)s, 'public.left_open', 'select') as is_open",
                {"role": role},
            ).fetchall()
            assert not row["is_open"], role
        admin.execute("drop table public.left_open")
        admin.execute("drop function private.left_open(), public.left_open()")
        assert describe(admin) == before


def test_the_last_migration_closes_the_api() -> None:
    last = max((PROJECT / "supabase" / "migrations").glob("*.sql"))
    assert last.read_text().endswith("\nselect private.close_api();\n"), f"{last.name} has to end with it"


def test_functions_that_forbid_kinds_of_plans_forbid_compiling_them_too(db: Connection) -> None:
    # A forbidden plan that is taken all the same seems so costly that a server with JIT compiles it at each call,
    # which takes a few hundred milliseconds.
    for function in db.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall():
        settings = function["settings"] or []
        if any(setting.startswith("enable_") for setting in settings):
            assert "jit=off" in settings, function["name"]


def test_what_a_lease_token_opens_is_closed_to_browsers(db: Connection) -> None:
    # Owners read the tokens of their operations, as they read the whole row.
    takers = [
        function
        for function in db.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall()
        if "lease_token" in function["name"]
    ]
    assert len(takers) > 4
    for function in takers:
        assert set(function["executors"] or []) <= {"service_role"}, function["name"]


def test_no_definer_function_is_exposed_or_lets_a_browser_name_a_user(db: Connection) -> None:
    for function in db.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall():
        executors = set(function["executors"] or [])
        is_exposed = function["name"].startswith("public.")
        if is_exposed and executors:
            # Written once where it is for the secret key alone; browsers' functions have their engine in private.
            assert function["is_definer"] == (executors == {"service_role"}), function["name"]
        if function["is_definer"]:
            names_a_user = "user" in function["name"].partition("(")[2]
            # Admins name the account they act on; tests/database/test_administration.py tries each as somebody else.
            is_for_admins = function["name"].startswith("private.admin_")
            open_to_browsers = "authenticated" in executors
            assert is_for_admins or not (names_a_user and open_to_browsers), function["name"]


def test_no_engine_is_open_to_the_secret_key_alone(db: Connection) -> None:
    for function in db.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall():
        if function["name"].startswith("private."):
            assert set(function["executors"] or []) != {"service_role"}, f"{function['name']} belongs in public"
