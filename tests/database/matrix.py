"""Who may do what with which row: every table, persona and action, tried for real and written down in matrix.txt.

`python -m tests.database.matrix` starts a stack of its own, tries everything and prints the table; with `--write` it
also replaces matrix.txt. A new table needs a recipe in `_recipes`.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.table import Table

from local.stack import PROJECT, Stack
from tests.database.personas import Connection, People, Person, Row, connect

EXPECTED = Path(__file__).with_name("matrix.txt")
DIRECTORY = PROJECT / ".dtf" / "matrix"
LEGEND = (
    "yes = done, 0 = permitted but the row is out of sight, - = refused. The row is the owner's; the inactive persona's"
    "\nown where he is tried. `insert` writes the columns in brackets, and each of the others beside them."
)
YES, NONE, NO = "yes", "0", "-"
PERSONAS = ("anon", "owner", "stranger", "inactive", "admin", "service_role")

AUDIENCE = Jsonb(
    {"subscription_status": ["free"], "plan": ["basic"], "credits": {"min": 0}, "signed_up": {"after": "2026-01-01"}}
)
OPTIONS = Jsonb([{"name": "size", "label": "Size", "type": "choice", "choices": ["s", "l"], "words": ["S", "L"]}])

TABLES = """
select n.nspname as schema, c.relname as name,
    array(
        select a.attname::text from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    ) as columns,
    array(
        select a.attname::text from pg_index as i
        inner join pg_attribute as a on a.attrelid = c.oid and a.attnum = any (i.indkey)
        where i.indexrelid = (
            select k.indexrelid from pg_index as k where k.indrelid = c.oid and k.indisunique
            order by k.indisprimary desc limit 1
        )
    ) as key
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where n.nspname in ('public', 'private') and c.relkind in ('r', 'p')
order by n.nspname desc, c.relname
"""


@dataclass(frozen=True)
class Subject:
    """What is tried: a table, the key of a row that is there, and the values of a new one."""

    schema: str
    table: str
    columns: list[str]
    key: Row
    new: Row
    title: str


@dataclass
class World:
    """The personas, and the subjects that belong to the owner and to the inactive one."""

    personas: dict[str, Person]
    subjects: dict[str, list[Subject]]
    # Rows that do not go with an account: table and key.
    leftovers: list[Subject] = field(default_factory=list)

    def remove(self, connection: Connection) -> None:
        """Remove the rows that stay when the accounts go."""
        for subject in reversed(self.leftovers):
            connection.execute(sql.SQL("delete from {}{}").format(_name(subject), _where(subject)), subject.key)


def build(people: People) -> World:
    """Make the personas and one row for each table, twice."""
    owner, inactive = people.new(credits=10), people.new(credits=10)
    world = World(
        {
            "anon": people.anon,
            "owner": owner,
            "stranger": people.new(),
            "inactive": inactive,
            "admin": people.new(is_admin=True),
            "service_role": people.service,
        },
        {},
    )
    for name, person in (("owner", owner), ("inactive", inactive)):
        world.subjects[name] = list(_subjects(people, person, world))
    people.connection.execute("update public.profiles set is_active = false where id = %s", (inactive.id,))
    return world


def _subjects(people: People, person: Person, world: World) -> Iterator[Subject]:
    connection = people.connection
    rows = _rows_there(people, person)
    objects = _objects_there(people, person, rows)
    new = _recipes(people, person, rows)
    for table in connection.execute(TABLES).fetchall():
        name = table["name"]
        if name not in new:
            raise LookupError(f"{table['schema']}.{name} has no recipe in {__file__}: add one to _recipes")
        made = name not in rows
        if made:
            rows[name] = _insert(connection, f"{table['schema']}.{name}", new[name])
            _vary(new[name])
        key = {column: rows[name][column] for column in table["key"]}
        subject = Subject(table["schema"], name, table["columns"], key, new[name], f"{table['schema']}.{name}")
        if made and not any(value == person.id for value in rows[name].values()):
            world.leftovers.append(subject)
        yield subject
        if f"{name}, public" in rows:
            key = {column: rows[f"{name}, public"][column] for column in table["key"]}
            yield Subject(table["schema"], name, table["columns"], key, new[name], f"{table['schema']}.{name}, public")
    for title, (bucket, key_name) in objects.items():
        key = {"bucket_id": bucket, "name": key_name}
        world.leftovers.append(Subject("storage", "objects", [], key, {}, title))
        values = {"bucket_id": bucket, "name": f"{key_name}.new"}
        yield Subject("storage", "objects", ["bucket_id", "name", "metadata"], key, values, title)


def _rows_there(people: People, person: Person) -> dict[str, Row]:
    """The rows that are there without a recipe, or at least their keys, by table."""
    connection, word = people.connection, str(uuid4())
    image, published = people.image(person), people.image(person, "published.png")
    operation = person.call(
        "request_image_operation", p_image_id=image, p_operation_type="upscale", p_idempotency_key=word
    )
    charge = people.ledger(person)[-1]
    person.call("cancel_image_operation", p_operation_id=operation["id"])
    (grant,) = connection.execute(
        "select g.* from public.credit_grants as g where g.user_id = %s limit 1", (person.id,)
    ).fetchall()
    clawback = people.service.call("clawback_credits", p_grant_id=grant["id"], p_amount=1, p_reason="test")
    connection.execute(
        "update public.images set thumbnail_url = %s where id = %s",
        (f"results/{_thumbnail(person, operation)}", published),
    )
    collection, public = (
        _insert(connection, "public.image_collections", {"user_id": person.id, "name": word, "is_public": is_public})
        for is_public in (False, True)
    )
    item, public_item = (
        _insert(connection, "public.image_collection_items", {"collection_id": part["id"], "image_id": published})
        for part in (collection, public)
    )
    connection.execute("update public.image_operations set image_id = %s where id = %s", (published, operation["id"]))
    return {
        "profiles": {"id": person.id},
        "catalogue_settings": {"name": "catalogue"},
        "operation_counts": {"user_id": person.id, "operation_type": "upscale"},
        "email_types": {"name": "receipt"},
        "operation_requests": {"user_id": person.id, "idempotency_key": word},
        "upload_totals": {"user_id": person.id},  # made by the objects
        "images": {"id": image},
        "image_operations": operation,
        "image_collections": collection,
        "image_collections, public": public,
        "image_collection_items": item,
        "image_collection_items, public": public_item,
        "credit_transactions": charge,
        "credit_grants": grant,
        "credit_clawbacks": clawback,
    }


def _thumbnail(person: Person, operation: Row) -> str:
    return f"{person.id}/{operation['id']}/thumbnail.webp"


def _objects_there(people: People, person: Person, rows: dict[str, Row]) -> dict[str, tuple[str, str]]:
    """Objects in storage by the title of what is tried on them: bucket and key."""
    objects = {
        "storage.objects in originals": ("originals", f"{person.id}/a.png"),
        "storage.objects in results": ("results", f"{person.id}/a.png"),
        "storage.objects in results, published": ("results", _thumbnail(person, rows["image_operations"])),
        "storage.objects in avatars": ("avatars", f"{person.id}/a.png"),
    }
    for bucket, name in objects.values():
        people.connection.execute("insert into storage.objects (bucket_id, name) values (%s, %s)", (bucket, name))
    return objects


def _recipes(people: People, person: Person, rows: dict[str, Row]) -> dict[str, Row]:
    """The values of a new row for each table."""
    connection, word = people.connection, str(uuid4())
    operation, charge, grant = rows["image_operations"], rows["credit_transactions"], rows["credit_grants"]
    mine: Row = {"user_id": person.id}
    day = date(1900, 1, 1) + timedelta(days=int(word[:4], 16))
    month = datetime.now(UTC).date().replace(day=1)
    figures = dict.fromkeys(("operations", "credits", "earned", "provider_calls", "unpriced_calls", "provider_cost"), 0)
    kind: Row = {"operation_type": word, "currency": "USD"} | figures
    sales = dict.fromkeys(("payments", "credits", "received", "returned"), 0)
    product: Row = {"subscription_plan_id": uuid4(), "pay_as_you_go_package_id": uuid4(), "currency": "USD"}
    price = {"api_provider": word, "operation_type": "upscale", "cost_per_operation": 1, "effective_date": "2026-01-01"}
    entry = mine | {"seq": 99, "transaction_type": "bonus", "amount": 1, "balance_before": 8, "balance_after": 9}
    mail = _insert(connection, "public.email_logs", mine | {"status": "sent"})["id"]
    # One of the seed's: the plans made here are removed before the accounts whose orders would name them.
    plan = connection.execute("select id from public.subscription_plans where name = 'basic'").fetchall()[0]["id"]
    return {
        "profiles": {"id": uuid4(), "email": f"{word}@example.test"},
        "subscription_plans": {"name": word},
        "pay_as_you_go_packages": {"name": word, "credits": 1, "price": 1},
        "operation_types": {"name": f"kind_{word[:8]}", "works_on": "nothing", "credits": 1, "description": word}
        | {"options": OPTIONS, "surcharges": Jsonb({"size": {"l": 1}})}
        | dict.fromkeys(("title", "activity", "result_title"), "Tried"),
        "catalogue_settings": {"name": "other"},
        "operation_counts": mine | {"operation_type": "vectorize"},
        "operation_requests": mine | {"idempotency_key": "new", "fingerprint": b"", "operation_id": operation["id"]},
        "credit_transactions": entry,
        "credit_grants": mine
        | {"transaction_id": charge["id"], "seq": 1, "source": "bonus", "amount": 1, "remaining": 0},
        "credit_clawbacks": mine | {"grant_id": grant["id"], "amount": 1, "owed": 0, "expired": 0, "reason": word},
        "closed_account_totals": {"month": "2020-01-01", "transaction_type": word},
        "billing_orders": mine | {"subscription_plan_id": plan, "stripe_price_id": word},
        "billing_invoices": mine
        | {"id": word, "stripe_subscription_id": word, "reason": word, "status": "open", "currency": "USD"}
        | {"amount_due": 1, "amount_paid": 0, "attempts": 0, "created_at": "2026-01-01"},
        "stripe_customers": mine | {"id": word},
        "stripe_events": {"id": word, "type": word, "status": "ignored"},
        "stripe_reads": {"object_id": word, "ticket": 1},
        "secrets": {"name": word},
        "set_aside_rows": mine | {"task": word, "row_id": word, "input": "{}", "sqlstate": "P0001", "reason": word},
        "former_addresses": {"address_hash": uuid4().bytes, "had_plan": False},
        "unconfirmed_mails": {"address_hash": uuid4().bytes},
        "subscription_history": mine | {"status": "active", "started_at": "2026-01-01"},
        "upload_totals": mine | {"bytes": 1},
        "images": mine | {"original_filename": "a.png"},
        "image_operations": mine | {"image_id": rows["images"]["id"], "operation_type": "upscale"},
        "image_collections": mine | {"name": word},
        "image_collection_items": {"collection_id": rows["image_collections"]["id"], "image_id": rows["images"]["id"]},
        "api_costs": price,
        "api_usage_logs": mine | {"api_provider": word, "operation_type": "upscale"},
        "admin_logs": {"action": word, "target_user_id": person.id},
        "system_metrics": {"metric_name": word},
        "user_activity_logs": mine | {"activity_type": word},
        "email_types": {"name": "word", "category": "essential", "description": "x", "sample_data": "{}"},
        "email_templates": {"name": word, "subject": "x", "html_content": "x"},
        "email_campaigns": {"name": word, "target_audience": AUDIENCE},
        "email_logs": mine | {"status": "sent"},
        "email_events": {"sg_event_id": word, "email_log_id": mail, "event_type": "open", "occurred_at": "2026-01-01"},
        "email_suppressions": {"email": f"{word}@example.test", "reason": "manual"},
        "active_months": mine | {"cohort": month, "month": month},
        "closed_account_operations": {"month": "2020-01-01"} | kind,
        "counted_days": {"day": day},
        "daily_operations": {"day": day} | kind,
        "daily_sales": {"day": day} | product | sales,
    }


def _vary(values: Row) -> None:
    """What a persona inserts must not collide with the row that is there: new words."""
    for column, value in values.items():
        if isinstance(value, str) and len(value) == 36:
            values[column] = str(uuid4())


def _insert(connection: Connection, table: str, values: Row) -> Row:
    columns = ", ".join(values)
    places = ", ".join(["%s"] * len(values))
    statement = f"insert into {table} ({columns}) values ({places}) returning *"
    return connection.execute(statement, list(values.values())).fetchall()[0]


def _name(subject: Subject) -> sql.Identifier:
    return sql.Identifier(subject.schema, subject.table)


def _where(subject: Subject) -> sql.Composed:
    conditions = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in subject.key]
    return sql.SQL(" where ") + sql.SQL(" and ").join(conditions)


def _attempts(subject: Subject) -> Iterator[tuple[str, str, sql.Composed, Row]]:
    """Each action on a subject: its name, the column it is about, the statement and its parameters."""
    name, where = _name(subject), _where(subject)
    yield "select", "", sql.SQL("select from {}{}").format(name, where), subject.key
    required = list(subject.new)
    for column in ["", *(column for column in subject.columns if column not in required)]:
        columns = [sql.Identifier(item) for item in (*required, column) if item]
        values = [sql.Placeholder(item) for item in required] + [sql.DEFAULT] * bool(column)
        statement = sql.SQL("insert into {} ({}) values ({})").format(
            name, sql.SQL(", ").join(columns), sql.SQL(", ").join(values)
        )
        yield ("insert with" if column else f"insert ({', '.join(required)})"), column, statement, subject.new
    for column in subject.columns:
        statement = sql.SQL("update {0} set {1} = {1}{2}").format(name, sql.Identifier(column), where)
        yield "update", column, statement, subject.key
    yield "delete", "", sql.SQL("delete from {}{}").format(name, where), subject.key


def _try(connection: Connection, statement: sql.Composed, parameters: Row) -> str:
    try:
        with connection.transaction(force_rollback=True):
            return YES if connection.execute(statement, parameters).rowcount else NONE
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.GeneratedAlways):
        return NO
    except psycopg.IntegrityError:
        # Postgres asks for permissions and policies first.
        return YES
    except psycopg.DatabaseError as error:
        if error.diag.sqlstate == "PT403":
            return NO
        raise


def probe(world: World) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Try everything. By title of the subject: action, column, and the outcome for each persona."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, person in world.personas.items():
        with person.trying() as connection:
            for subject in world.subjects["inactive" if name == "inactive" else "owner"]:
                outcomes = found.setdefault(subject.title, {})
                for action, column, statement, parameters in _attempts(subject):
                    outcomes.setdefault((action, column), []).append(_try(connection, statement, parameters))
    return {title: [(*key, outcome) for key, outcome in outcomes.items()] for title, outcomes in found.items()}


def lines(attempts: list[tuple[str, str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """One line for each action and outcome; columns with the same outcome share it."""
    for action, group in groupby(attempts, key=lambda attempt: attempt[0]):
        together: dict[tuple[str, ...], list[str]] = {}
        for _, column, outcome in group:
            together.setdefault(tuple(outcome), []).append(column)
        for shared, columns in together.items():
            yield f"{action} {', '.join(columns)}".rstrip(), list(shared)


def render(found: dict[str, list[tuple[str, str, list[str]]]]) -> str:
    """The whole matrix as text: the outcomes first, because the names may be long."""
    text = [LEGEND, "", "".join(f"{persona:<14}" for persona in PERSONAS).rstrip()]
    for title, attempts in found.items():
        text += ["", title]
        for label, outcome in lines(attempts):
            text.append("".join(f"{item:<14}" for item in outcome) + label)
    return "\n".join(text) + "\n"


def show(found: dict[str, list[tuple[str, str, list[str]]]], console: Console) -> None:
    """Print the matrix as a table."""
    colours = {YES: "[green]yes[/green]", NONE: "[yellow]0[/yellow]", NO: "[red]-[/red]"}
    table = Table("", *PERSONAS, caption=LEGEND, caption_justify="left")
    for title, attempts in found.items():
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]")
        for label, outcome in lines(attempts):
            table.add_row(f"  {label}", *(colours[item] for item in outcome))
    console.print(table)


def main(*, write: bool) -> None:
    """Probe a new stack, print the matrix, and with `write` keep it as what is expected."""
    stack = Stack(DIRECTORY)
    stack.down()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    try:
        with connect(stack.up().db_url) as connection:
            found = probe(build(People(connection)))
    finally:
        stack.down()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
    show(found, Console())
    if write:
        EXPECTED.write_text(render(found))


if __name__ == "__main__":
    main(write="--write" in sys.argv[1:])
