"""Describes who may do what, read from the catalog of a database: tables, views, functions, storage.

`python -m tests.database.catalog <database url>` prints what catalog.txt should say.
"""

import sys
from pathlib import Path

from tests.database.personas import Connection, connect

EXPECTED = Path(__file__).with_name("catalog.txt")
ROLES = ("public", "anon", "authenticated", "service_role")

TABLES = """
select
    n.nspname || '.' || c.relname as name,
    c.relkind = 'v' as is_view,
    c.relkind = 'S' as is_sequence,
    c.relrowsecurity as has_rls,
    coalesce('security_invoker=true' = any (c.reloptions), false) as is_invoker,
    c.oid
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('public', 'private') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
order by name
"""

# One row for each role and privilege; the columns where it is granted on columns only.
GRANTS = """
with grants as (
    select coalesce(r.rolname, 'public') as role, lower(a.privilege_type) as privilege, null as column_name, 0 as attnum
    from pg_class as c
    cross join aclexplode(c.relacl) as a
    left join pg_roles as r on r.oid = a.grantee
    where c.oid = %(oid)s
    union all
    select coalesce(r.rolname, 'public'), lower(a.privilege_type), t.attname, t.attnum
    from pg_attribute as t
    cross join aclexplode(t.attacl) as a
    left join pg_roles as r on r.oid = a.grantee
    where t.attrelid = %(oid)s
)
select role, privilege, string_agg(column_name, ', ' order by attnum) as columns
from grants
where role = any (%(roles)s)
group by role, privilege
order by role, array_position('{select,insert,update,delete}', privilege), privilege
"""

POLICIES = """
select
    polname as name,
    case polcmd
        when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all'
    end as action,
    polpermissive as is_permissive,
    (select string_agg(r.rolname, ', ' order by r.rolname) from pg_roles as r where r.oid = any (polroles)) as roles
from pg_policy
where polrelid = %s
order by array_position('{r,a,w,d,*}', polcmd::text), name
"""

FUNCTIONS = """
select
    format('%%s.%%s(%%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as name,
    case when p.prosecdef then 'definer' else 'invoker' end as security,
    p.prosecdef as is_definer,
    p.proconfig as settings,
    p.proacl is null as has_default_acl,
    (
        select array_agg(coalesce(r.rolname, 'public') order by r.rolname)
        from aclexplode(p.proacl) as a
        left join pg_roles as r on r.oid = a.grantee
        where coalesce(r.rolname, 'public') = any (%(roles)s)
    ) as executors
from pg_proc as p
inner join pg_namespace as n on n.oid = p.pronamespace
where n.nspname in ('public', 'private')
order by name
"""


def describe(connection: Connection) -> str:
    """The whole catalog as text, one object after the other."""
    lines: list[str] = []
    for table in connection.execute(TABLES).fetchall():
        if table["is_view"]:
            lines.append(f"view {table['name']}: {'invoker' if table['is_invoker'] else 'DEFINER'}")
        elif table["is_sequence"]:
            lines.append(f"sequence {table['name']}")
        else:
            lines.append(f"table {table['name']}: {'rls' if table['has_rls'] else 'NO RLS'}")
        lines += _grants(connection, table["oid"])
        lines += _policies(connection, table["oid"])
    (objects,) = connection.execute("select 'storage.objects'::regclass::oid as oid").fetchall()
    lines += ["policies of storage.objects", *_policies(connection, objects["oid"])]
    for function in connection.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall():
        settings = ", ".join(function["settings"] or ["NO SETTINGS"])
        executors = "EVERYBODY" if function["has_default_acl"] else ", ".join(function["executors"] or ["nobody"])
        lines.append(f"function {function['name']}")
        lines.append(f"    {function['security']}; {settings}; executed by {executors}")
    return "\n".join(lines) + "\n"


def _grants(connection: Connection, oid: int) -> list[str]:
    privileges: dict[str, list[str]] = {}
    for grant in connection.execute(GRANTS, {"oid": oid, "roles": list(ROLES)}).fetchall():
        columns = f" ({grant['columns']})" if grant["columns"] else ""
        privileges.setdefault(grant["role"], []).append(grant["privilege"] + columns)
    return [f"    {role} may {', '.join(granted)}" for role, granted in privileges.items()]


def _policies(connection: Connection, oid: int) -> list[str]:
    return [
        f"    policy on {policy['action']} to {policy['roles'] or 'PUBLIC'}"
        f"{'' if policy['is_permissive'] else ' (restrictive)'}: {policy['name']}"
        for policy in connection.execute(POLICIES, (oid,)).fetchall()
    ]


if __name__ == "__main__":
    with connect(sys.argv[1]) as database:
        sys.stdout.write(describe(database))
