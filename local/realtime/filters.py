"""The filter language of Postgres Changes: `column=[not.]operator.value`, conditions joined by commas (AND).

Commas within quotes or parentheses belong to a value. A value in double quotes is taken literally, with `\\` before
a quote or a backslash.
"""

from dataclasses import dataclass

from psycopg import sql

OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
}
"""Operators of the form `column operator value`; the others are written out in `comparison`."""

OTHER_OPERATORS = ("in", "is", "isdistinct")


class FilterError(ValueError):
    """The filter cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition. The value of `in` is a Postgres array literal."""

    column: str
    operator: str
    value: str
    negate: bool = False

    def __str__(self) -> str:
        return f'{{"{self.column}", "{self.operator}", "{self.value}", {str(self.negate).lower()}}}'


def parse(text: str) -> tuple[Filter, ...]:
    """The conditions of a filter; none for an empty one. Raises FilterError."""
    return tuple(_condition(part.strip()) for part in _split(text.strip())) if text.strip() else ()


def _split(text: str) -> list[str]:
    """Split at commas outside quotes and parentheses. A quote opens only where a value or an item begins."""
    parts, start, depth, quoted, escaped = [], 0, 0, False, False
    for position, character in enumerate(text):
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"' and position > 0 and text[position - 1] in ".(,":
            quoted = True
        elif character == "(":
            depth += 1
        elif character == ")":
            depth = max(0, depth - 1)
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _condition(text: str) -> Filter:
    if not text:
        raise FilterError("filter must not contain empty segments (check for extra commas)")
    column, equals, rest = text.partition("=")
    if not equals:
        raise FilterError(f'["{text}"]')
    negate = rest.startswith("not.")
    operator, dot, value = rest.removeprefix("not.").partition(".")
    if not dot:
        raise FilterError(f'["{operator}"]')
    if operator not in OPERATORS and operator not in OTHER_OPERATORS:
        raise FilterError(f'["{operator}", "{value}"]')
    if operator != "in":
        return Filter(column, operator, _unquoted(value), negate)
    if not (len(value) >= 2 and value.startswith("(") and value.endswith(")")):
        raise FilterError("`in` filter value must be wrapped by parentheses")
    return Filter(column, operator, f"{{{value[1:-1]}}}", negate)


def _unquoted(value: str) -> str:
    """The text within quotes; a value that is not quoted as a whole stays as it is."""
    if not value.startswith('"'):
        return value
    text, position = "", 1
    while position < len(value):
        character = value[position]
        if character == '"':
            return text if position == len(value) - 1 else value
        if character == "\\" and position + 1 < len(value):
            position += 1
            character = value[position]
        text += character
        position += 1
    return value


def comparison(condition: Filter, sql_type: str) -> sql.Composed:
    """The condition in SQL, of two parameters: the column's value and the condition's. `sql_type` is quoted.

    Not for `is`, which compares with no value.
    """
    value_type = sql.SQL(sql_type.replace("%", "%%"))
    if condition.operator == "isdistinct":
        operator = "is not distinct from" if condition.negate else "is distinct from"
        return sql.SQL("(%s::{0} {1} %s::{0})").format(value_type, sql.SQL(operator))
    if condition.operator == "in":
        expression = sql.SQL("(%s::{0} = any (%s::{0}[]))").format(value_type)
    else:
        expression = sql.SQL("(%s::{0} {1} %s::{0})").format(value_type, sql.SQL(OPERATORS[condition.operator]))
    return sql.SQL("not {}").format(expression) if condition.negate else expression
