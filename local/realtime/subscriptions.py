"""What a channel asks of Postgres Changes, read and checked when it subscribes."""

import re
import zlib
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from local.realtime import filters
from local.realtime.filters import Filter, FilterError, comparison
from local.realtime.frames import dumps
from local.realtime.tokens import Claims

PUBLICATION = "supabase_realtime"
MAX_IN_VALUES = 100
IS_VALUES = ("null", "true", "false", "unknown")

# The columns of published tables, and which of them the role may read.
COLUMNS = """
    select published.schemaname, published.tablename, attribute.attname, attribute.atttypid::regtype::text,
        format('%%I.%%I', namespace.nspname, type.typname),
        has_column_privilege(%(role)s, class.oid, attribute.attnum, 'select')
    from pg_publication_tables as published
        join pg_class as class
            on class.oid = to_regclass(format('%%I.%%I', published.schemaname, published.tablename))
        join pg_attribute as attribute
            on attribute.attrelid = class.oid and attribute.attnum > 0 and not attribute.attisdropped
        join pg_type as type on type.oid = attribute.atttypid
        join pg_namespace as namespace on namespace.oid = type.typnamespace
    where published.pubname = %(publication)s
        and %(schema)s::name in ('*', published.schemaname)
        and %(table)s::name in ('*', published.tablename)
"""


class SubscriptionError(Exception):
    """What was asked for cannot be subscribed to; the message is sent to the client."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry of `postgres_changes`; schema and table may be `*`, `select` None means every column."""

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...]
    select: tuple[str, ...] | None

    def __str__(self) -> str:
        """As it is named in errors."""
        conditions = ", ".join(map(str, self.filters))
        select = "nil" if self.select is None else dumps(list(self.select)).replace(",", ", ")
        return (
            f"event: {self.event}, schema: {self.schema}, table: {self.table},"
            f" filters: [{conditions}], select: {select}"
        )

    def matches(self, event: str, schema: str, table: str) -> bool:
        """Whether it asks for this kind of change to this table."""
        return self.event in ("*", event) and self.schema in ("*", schema) and self.table in ("*", table)


def identify(params: dict[str, Any]) -> int:
    """The number by which client and server name an entry: never 0, the same for equal entries."""
    return zlib.crc32(dumps(sorted(params.items(), key=lambda item: item[0])).encode()) >> 1 or 1


def parse(params: dict[str, Any]) -> Wanted:
    """Read an entry as the client sent it. Raises SubscriptionError."""
    select = _select(params.get("select"))
    schema, table = params.get("schema"), params.get("table")
    conditions: tuple[Filter, ...] = ()
    match params:
        case {"schema": str(), "table": str(), "filter": str(text)}:
            try:
                conditions = filters.parse(text)
            except FilterError as error:
                raise SubscriptionError(f"Error parsing `filter` params: {error}") from None
        case {"schema": str(), "table": str()} if "filter" not in params:
            pass
        case {"schema": str()} if "filter" not in params and "table" not in params:
            table = "*"
        case {"table": str()} if "filter" not in params and "schema" not in params:
            schema = "public"
        case _:
            raise SubscriptionError(
                "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
                + _inspect(params)
            )
    if select is not None and "*" in (schema, table):
        raise SubscriptionError(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
        )
    event = str(params.get("event")).upper()
    if event not in ("INSERT", "UPDATE", "DELETE"):
        event = "*"
    return Wanted(identify(params), event, str(schema), str(table), conditions, select)


def _select(columns: object) -> tuple[str, ...] | None:
    if isinstance(columns, str):
        raise SubscriptionError(
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]'
        )
    if not isinstance(columns, list):
        return None
    return tuple(column for column in columns if isinstance(column, str)) or None


def _inspect(params: dict[str, Any]) -> str:
    if {"user_token", "auth_token"} & set(params):
        return "<redacted>"
    return "%{" + ", ".join(f"{dumps(key)} => {dumps(value)}" for key, value in sorted(params.items())) + "}"


async def check(connection: AsyncConnection, wanted: Wanted, claims: Claims) -> None:
    """Whether the tables are published and the role may name these columns.

    Raises SubscriptionError, and psycopg.OperationalError where the database cannot be asked.
    """
    try:
        await _check(connection, wanted, str(claims["role"]))
    except psycopg.OperationalError:
        raise
    except (psycopg.Error, _InvalidError, UnicodeEncodeError) as error:  # the last: half a surrogate pair is no text
        raise SubscriptionError(
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect"
            f" parameters: [{wanted}]. Exception: {_described(error)}"
        ) from None


class _InvalidError(Exception):
    """A filter or a selection that does not fit the table."""


def _described(error: Exception) -> str:
    if not isinstance(error, psycopg.Error):
        return f"ERROR P0001 (raise_exception) {error}"
    condition = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return f"ERROR {error.sqlstate} ({condition}) {error.diag.message_primary or error}"


async def _check(connection: AsyncConnection, wanted: Wanted, role: str) -> None:
    parameters = {"role": role, "publication": PUBLICATION, "schema": wanted.schema, "table": wanted.table}
    cursor = await connection.execute(COLUMNS, parameters)
    tables: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for schema, table, column, type_name, sql_type, selectable in await cursor.fetchall():
        columns = tables.setdefault((schema, table), {})
        if selectable:
            columns[column] = (type_name, sql_type)
    if not tables:
        raise SubscriptionError(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given"
            f" connect parameters: [{wanted}]"
        )
    for columns in tables.values():
        for condition in wanted.filters:
            if condition.column not in columns:
                raise _InvalidError(f"invalid column for filter {condition.column}")
            await _check_value(connection, condition, *columns[condition.column])
        for column in wanted.select or ():
            if column not in columns:
                raise _InvalidError(f"invalid column for select {column}")


async def _check_value(connection: AsyncConnection, condition: Filter, type_name: str, sql_type: str) -> None:
    """Whether the condition can be evaluated, so that it never fails when a change comes."""
    value, operator = condition.value, condition.operator
    if operator == "is":
        if value not in IS_VALUES:
            raise _InvalidError("invalid value for is filter: must be null, true, false, or unknown")
        if value != "null" and type_name != "boolean":
            raise _InvalidError(f"is {value} filter requires a boolean column, got {type_name}")
    elif operator in ("like", "ilike", "match", "imatch"):
        symbol = {"like": "~~", "ilike": "~~", "match": "~", "imatch": "~*"}[operator]
        found = await connection.execute(
            "select from pg_operator where oprname = %s and oprleft = %s::regtype and oprresult = 'boolean'::regtype",
            (symbol, sql_type),
        )
        if found.rowcount == 0:
            raise _InvalidError(f"operator {operator} requires a text-compatible column type, got {type_name}")
        if operator in ("like", "ilike"):
            await connection.execute("select '' like %s", (value,))
            if (len(value) - len(value.rstrip("\\"))) % 2:
                raise _InvalidError(f"{operator} pattern must not end with escape character")
        else:
            try:
                await connection.execute("select '' ~ %s", (value,))
            except psycopg.errors.InvalidRegularExpression as error:
                message = error.diag.message_primary
                raise _InvalidError(f"invalid regular expression for {operator} filter: {message}") from None
    else:
        await connection.execute(sql.SQL("select {}").format(comparison(condition, sql_type)), (None, value))
        if operator == "in":
            count = sql.SQL("select cardinality(%s::{}[])").format(sql.SQL(sql_type.replace("%", "%%")))
            found = await connection.execute(count, (value,))
            if (await found.fetchone() or (0,))[0] > MAX_IN_VALUES:
                raise _InvalidError(f"too many values for `in` filter. Maximum {MAX_IN_VALUES}")
