"""Postgres Changes: which subscription may see a changed row, and what of it.

Postgres does the judging: values become JSON, filters compare and policies decide there, each under its own rules.
A row that was deleted can no longer be checked against policies: of it subscribers see the primary key only.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import psycopg
import structlog
from psycopg import AsyncConnection, sql

from local.realtime.database import Database, connect, speak_for
from local.realtime.filters import Filter, comparison
from local.realtime.frames import dumps
from local.realtime.pgoutput import Change, Relation, Row
from local.realtime.subscriptions import Wanted, check
from local.realtime.tokens import Claims

MAX_RECORD_BYTES = 1024 * 1024
MAX_VALUE_BYTES = 64  # of a value in a record that is too large
CONDITIONS_AT_ONCE = 1000  # a query has at most 1664 expressions
NOT_JSON = ("NaN", "Infinity", "-Infinity")

Json = dict[str, str]
"""JSON texts by column."""

log = structlog.get_logger(__name__)


class Subscriber(Protocol):
    """A channel with subscriptions."""

    def send_change(self, ids: Sequence[int], event: str, data: str) -> None: ...  # noqa: D102
    def subscribed(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Subscription:
    """One wanted entry of a subscriber; it gets what is committed after `since` in the log."""

    subscriber: Subscriber
    wanted: Wanted
    claims: str
    role: str
    since: int


@dataclass(frozen=True, slots=True)
class Column:
    """`sql_type` is quoted; `readable_by` are roles."""

    name: str
    type_name: str
    full_type: str
    sql_type: str
    is_key: bool
    readable_by: frozenset[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is now, with the rights of the roles that subscribe to it."""

    relation: Relation
    roles: frozenset[str]
    has_policies: bool
    columns: Mapping[str, Column]

    @property
    def key(self) -> list[Column]:
        """The columns of the primary key."""
        return [column for column in self.columns.values() if column.is_key]


class Changes:
    """All subscriptions to changes."""

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database
        self._subscriptions: dict[Subscriber, list[Subscription]] = {}
        self._tables: dict[int, Table] = {}
        self._asking: AsyncConnection | None = None

    async def subscribe(self, subscriber: Subscriber, wanted: Sequence[Wanted], claims: Claims) -> None:
        """Check and register what a subscriber wants, in place of what it had.

        Raises SubscriptionError, and psycopg.OperationalError where the database cannot be asked.
        """
        async with self._database.asking() as connection:
            for entry in wanted:
                await check(connection, entry, claims)
            cursor = await connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            (since,) = await cursor.fetchone() or (0,)
        text, role = json.dumps(claims, sort_keys=True), str(claims["role"])
        self._subscriptions[subscriber] = [Subscription(subscriber, entry, text, role, int(since)) for entry in wanted]

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forget what the subscriber wanted."""
        self._subscriptions.pop(subscriber, None)

    def reading_again(self) -> None:
        """The log is read from a new place: whatever was committed in between went unseen, which is said this way."""
        for subscriber in list(self._subscriptions):
            subscriber.subscribed()

    async def changed(self, change: Change) -> None:
        """Tell those who may know of a change. Raises psycopg.OperationalError."""
        relation = change.relation
        interested = [
            subscription
            for subscriptions in self._subscriptions.values()
            for subscription in subscriptions
            if subscription.wanted.matches(change.type, relation.schema, relation.table)
            and subscription.since <= change.lsn
        ]
        if not interested:
            return
        try:
            try:
                await self._tell(change, interested)
            except psycopg.OperationalError:  # the connection was lost; the next one may live
                self._asking = None
                await self._tell(change, interested)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:  # the table is another one by now, for instance
            log.error("change_dropped", schema=relation.schema, table=relation.table, error=str(error).strip())

    async def _tell(self, change: Change, interested: list[Subscription]) -> None:
        connection = await self._connection()
        table = await self._table(connection, change.relation, {subscription.role for subscription in interested})
        new, old = await _as_json(connection, table, change)
        interested = self._still_there(interested)
        visible: list[Subscription] = []
        for role in sorted({subscription.role for subscription in interested}):
            of_role = [subscription for subscription in interested if subscription.role == role]
            if change.type != "DELETE" and not table.key:
                _send_error(change, of_role, "Error 400: Bad Request, no primary key")
            elif change.type != "DELETE" and not all(role in column.readable_by for column in table.key):
                _send_error(change, of_role, "Error 401: Unauthorized")
            else:
                visible += of_role
        visible = await _matching(connection, table, change, visible)
        if table.has_policies and change.type != "DELETE":
            visible = await _permitted(connection, table, change, visible)
        _send(table, change, new, old, self._still_there(visible))

    def _still_there(self, subscriptions: list[Subscription]) -> list[Subscription]:
        """Those that nobody has ended or replaced while Postgres was asked: their rights may have gone with them."""
        there = {id(known) for entries in self._subscriptions.values() for known in entries}
        return [subscription for subscription in subscriptions if id(subscription) in there]

    async def _connection(self) -> AsyncConnection:
        if self._asking is None or self._asking.closed:
            self._asking = await connect(self._url, "changes")
        return self._asking

    async def _table(self, connection: AsyncConnection, relation: Relation, roles: set[str]) -> Table:
        """The table, read once for each description in the log, of which there is one at least every reading."""
        known = self._tables.get(relation.oid)
        if known is not None and known.relation is relation and roles <= known.roles:
            return known
        table = await _describe(connection, relation, roles)
        self._tables[relation.oid] = table
        return table


async def _describe(connection: AsyncConnection, relation: Relation, roles: set[str]) -> Table:
    cursor = await connection.execute(
        """
        select class.relrowsecurity, attribute.attname, type.typname,
            format_type(attribute.atttypid, attribute.atttypmod),
            format('%%I.%%I', namespace.nspname, type.typname),
            attribute.attnum = any(coalesce(pk.conkey, '{}')),
            array(
                select role from unnest(%s::text[]) as role
                where has_column_privilege(role, class.oid, attribute.attnum, 'select')
            )
        from pg_class as class
            join pg_attribute as attribute
                on attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
            join pg_type as type on type.oid = attribute.atttypid
            join pg_namespace as namespace on namespace.oid = type.typnamespace
            left join pg_constraint as pk on pk.conrelid = class.oid and pk.contype = 'p'
        where class.oid = %s
        order by attribute.attnum
        """,
        (sorted(roles), relation.oid),
    )
    rows = await cursor.fetchall()
    columns = {
        name: Column(name, type_name, full_type, sql_type, is_key, frozenset(readable_by))
        for _, name, type_name, full_type, sql_type, is_key, readable_by in rows
    }
    return Table(relation, frozenset(roles), any(row[0] for row in rows), columns)


async def _as_json(connection: AsyncConnection, table: Table, change: Change) -> tuple[Json, Json]:
    """The new and the old row in JSON. Binary data is hex; numbers that JSON does not know are null."""
    rows: tuple[Json, Json] = ({}, {})
    expressions, values, places = [], [], []
    for row, target in zip((change.new, change.old), rows, strict=True):
        for name, value in row.items():
            column = table.columns.get(name)
            if column is None:
                continue  # dropped since
            if value is None or (column.type_name in ("numeric", "float4", "float8") and value in NOT_JSON):
                target[name] = "null"
            elif column.type_name == "bytea":
                target[name] = dumps(value.removeprefix("\\x"))
            else:
                expressions.append(sql.SQL("to_jsonb(%s::{})::text").format(_type(column)))
                values.append(value)
                places.append((target, name))
    if expressions:
        cursor = await connection.execute(sql.SQL("select {}").format(sql.SQL(", ").join(expressions)), values)
        for (target, name), text in zip(places, await cursor.fetchone() or (), strict=True):
            target[name] = text
    return rows


def _type(column: Column) -> sql.SQL:
    return sql.SQL(column.sql_type.replace("%", "%%"))  # quoted by Postgres


async def _matching(
    connection: AsyncConnection, table: Table, change: Change, subscriptions: list[Subscription]
) -> list[Subscription]:
    """Those whose every filter is true. One query for all: values are compared side by side."""
    row = change.old if change.type == "DELETE" else change.new
    verdicts = await _verdicts(
        connection, table, row, {condition for entry in subscriptions for condition in entry.wanted.filters}
    )
    return [
        entry for entry in subscriptions if all(verdicts.get(condition) is True for condition in entry.wanted.filters)
    ]


async def _verdicts(
    connection: AsyncConnection, table: Table, row: Row, conditions: Iterable[Filter]
) -> dict[Filter, bool | None]:
    """What becomes of each condition; those on columns that are not in the row are left out."""
    verdicts: dict[Filter, bool | None] = {}
    asked: list[Filter] = []
    for condition in conditions:
        if condition.column not in table.columns or condition.column not in row:
            continue
        if condition.operator == "is":
            verdicts[condition] = _is(row[condition.column], condition)
        else:
            asked.append(condition)
    for start in range(0, len(asked), CONDITIONS_AT_ONCE):
        some = asked[start : start + CONDITIONS_AT_ONCE]
        verdicts |= zip(some, await _evaluate(connection, table, row, some), strict=True)
    return verdicts


async def _evaluate(connection: AsyncConnection, table: Table, row: Row, conditions: list[Filter]) -> list[bool | None]:
    """What becomes of the conditions, in one query. Where one of them fails, that one is null, and no other suffers."""
    expressions = [comparison(condition, table.columns[condition.column].sql_type) for condition in conditions]
    parameters = [value for condition in conditions for value in (row[condition.column], condition.value)]
    query = sql.SQL("select {}").format(sql.SQL(", ").join(expressions))
    try:
        cursor = await connection.execute(query, parameters, prepare=False)
        return list(await cursor.fetchone() or ())
    except psycopg.Error as error:
        if connection.closed:
            raise
        if len(conditions) == 1:
            log.warning(
                "filter_failed", table=table.relation.table, filter=str(conditions[0]), error=str(error).strip()
            )
            return [None]
    middle = len(conditions) // 2
    return [
        *await _evaluate(connection, table, row, conditions[:middle]),
        *await _evaluate(connection, table, row, conditions[middle:]),
    ]


def _is(value: str | None, condition: Filter) -> bool:
    keyword = {"true": "t", "false": "f"}.get(condition.value)
    return (value == keyword) != condition.negate


async def _permitted(
    connection: AsyncConnection, table: Table, change: Change, subscriptions: list[Subscription]
) -> list[Subscription]:
    """Those whose policies let them see the row, as it is now. Equal claims are asked for once."""
    key = table.key
    condition = sql.SQL(" and ").join(
        sql.SQL("{} = %s::{}").format(sql.Identifier(column.name), _type(column)) for column in key
    )
    relation = sql.Identifier(table.relation.schema, table.relation.table)
    query = sql.SQL("select exists (select from {} where {})").format(relation, condition)
    values = [change.new.get(column.name) for column in key]
    may_see: dict[str, bool] = {}
    for claims in {subscription.claims for subscription in subscriptions}:
        try:
            async with connection.transaction(force_rollback=True):
                await speak_for(connection, json.loads(claims))
                row = await (await connection.execute(query, values)).fetchone()
                may_see[claims] = row == (True,)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:  # a policy may raise; then this person sees nothing
            log.error("policy_failed", table=table.relation.table, error=str(error).strip())
            may_see[claims] = False
    return [subscription for subscription in subscriptions if may_see[subscription.claims]]


def _send_error(change: Change, subscriptions: list[Subscription], error: str) -> None:
    data: dict[str, object] = {
        "schema": change.relation.schema,
        "table": change.relation.table,
        "type": change.type,
        "commit_timestamp": None,
        "columns": [],
        "record": {},
        "errors": [error],
    }
    if change.type == "UPDATE":
        data["old_record"] = {}
    _deliver(subscriptions, change.type, dumps(data))


def _send(table: Table, change: Change, new: Json, old: Json, subscriptions: list[Subscription]) -> None:
    """Send each role and selection its view of the change."""
    text = sum(len(value) for row in (change.new, change.old) for value in row.values() if value)
    # Written out it is at most some times as long, so most changes need no measuring.
    is_too_large = text > MAX_RECORD_BYTES // 16 and _size(table, change) > MAX_RECORD_BYTES
    groups: dict[tuple[str, tuple[str, ...] | None], list[Subscription]] = {}
    for subscription in subscriptions:
        groups.setdefault((subscription.role, subscription.wanted.select), []).append(subscription)
    for (role, select), members in groups.items():
        shown = [
            column
            for column in table.columns.values()
            if role in column.readable_by and (select is None or column.name in select or column.is_key)
        ]
        _deliver(members, change.type, _data(table, change, new, old, shown, is_too_large=is_too_large))


def _data(table: Table, change: Change, new: Json, old: Json, shown: list[Column], *, is_too_large: bool) -> str:
    def record(row: Json, columns: Iterable[Column]) -> str:
        members = [
            f"{dumps(column.name)}:{row[column.name]}"
            for column in columns
            if column.name in row and not (is_too_large and len(row[column.name].encode()) > MAX_VALUE_BYTES)
        ]
        return "{" + ",".join(members) + "}"

    columns = [{"name": column.name, "type": column.type_name} for column in shown]
    seconds, microseconds = divmod(change.committed_at, 1_000_000)
    time = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds // 1000:03}Z"
    parts = [
        f'"schema":{dumps(change.relation.schema)},"table":{dumps(change.relation.table)},"type":"{change.type}"',
        f'"commit_timestamp":"{time}","columns":{dumps(columns)}',
    ]
    if change.type != "DELETE":
        parts.append(f'"record":{record({**old, **new}, shown)}')  # old: what TOAST left out of the new row
    if change.type == "UPDATE":
        parts.append(f'"old_record":{record(old, shown)}')
    if change.type == "DELETE":
        parts.append(f'"old_record":{record(old, (c for c in shown if c.is_key or not table.has_policies))}')
    parts.append('"errors":' + ('["Error 413: Payload Too Large"]' if is_too_large else "null"))
    return "{" + ",".join(parts) + "}"


def _size(table: Table, change: Change) -> int:
    """Bytes of the change as wal2json writes it, which is what the limit is about."""

    def described(row: Row) -> list[dict[str, object]]:
        return [
            {"name": name, "type": table.columns[name].full_type, "value": value, "typeoid": 1000}
            for name, value in row.items()
            if name in table.columns
        ]

    text = {
        "action": change.type[0],
        "schema": change.relation.schema,
        "table": change.relation.table,
        "timestamp": "2000-01-01 00:00:00.000000+00",
        "columns": described(change.new),
        "identity": described(change.old),
        "pk": [{"name": column.name, "type": column.full_type} for column in table.key],
    }
    return len(json.dumps(text, ensure_ascii=False).encode())


def _deliver(subscriptions: list[Subscription], event: str, data: str) -> None:
    """One message for each subscriber, naming all its entries that match."""
    ids: dict[Subscriber, list[int]] = {}
    for subscription in subscriptions:
        ids.setdefault(subscription.subscriber, []).append(subscription.wanted.id)
    for subscriber, matched in ids.items():
        subscriber.send_change(matched, event, data)
