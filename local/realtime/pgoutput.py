"""The messages of Postgres' own output plugin, protocol version 1, with values as text.

Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

import struct
from dataclasses import dataclass
from typing import Any, Literal

POSTGRES_EPOCH = 946_684_800  # 2000-01-01 in seconds since 1970

Row = dict[str, str | None]
"""Column values as text. A value that was stored out of line and did not change (TOAST) is absent."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table; `identity` are the columns that identify a row (its replica identity)."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    identity: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row. `lsn` is the commit's place in the log, `committed_at` microseconds since 1970."""

    relation: Relation
    type: Literal["INSERT", "UPDATE", "DELETE"]
    new: Row
    old: Row
    lsn: int
    committed_at: int


class Decoder:
    """Turns the messages of one reading of the slot into changes."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._lsn = 0
        self._committed_at = 0

    def decode(self, data: bytes) -> Change | None:
        """The change in a message; None for a message that only prepares or ends some (or is a TRUNCATE)."""
        reader = _Reader(data)
        match reader.take("c"):
            case b"B":
                self._lsn, microseconds = reader.take("Q"), reader.take("q")
                self._committed_at = microseconds + POSTGRES_EPOCH * 1_000_000
            case b"R":
                relation = _relation(reader)
                self._relations[relation.oid] = relation
            case b"I":
                relation = self._relations[reader.take("I")]
                _, new = reader.take("c"), reader.row(relation)
                return Change(relation, "INSERT", new, {}, self._lsn, self._committed_at)
            case b"U":
                return self._update(reader)
            case b"D":
                relation = self._relations[reader.take("I")]
                old = _identity(relation, reader.take("c"), reader.row(relation))
                return Change(relation, "DELETE", {}, old, self._lsn, self._committed_at)
        return None

    def _update(self, reader: "_Reader") -> Change:
        relation = self._relations[reader.take("I")]
        kind, row = reader.take("c"), reader.row(relation)
        if kind == b"N":  # the identity did not change, so it is not sent
            new, old = row, {name: row[name] for name in relation.identity if name in row}
        else:
            old = _identity(relation, kind, row)
            _, new = reader.take("c"), reader.row(relation)
        return Change(relation, "UPDATE", new, old, self._lsn, self._committed_at)


def _identity(relation: Relation, kind: bytes, row: Row) -> Row:
    """The old row: all of it (`O`), or only its key (`K`), beside which the columns are sent as nulls."""
    return row if kind == b"O" else {name: row[name] for name in relation.identity if name in row}


def _relation(reader: "_Reader") -> Relation:
    oid, schema, table, _identity_kind = reader.take("I"), reader.text(), reader.text(), reader.take("c")
    columns, identity = [], []
    for _ in range(reader.take("H")):
        in_identity, name, _type, _modifier = reader.take("B"), reader.text(), reader.take("I"), reader.take("i")
        columns.append(name)
        if in_identity:
            identity.append(name)
    return Relation(oid, schema, table, tuple(columns), tuple(identity))


class _Reader:
    """Reads a message from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, kind: str) -> Any:
        """The next value, by its letter in the module `struct`."""
        (value,) = struct.unpack_from(f"!{kind}", self._data, self._position)
        self._position += struct.calcsize(f"!{kind}")
        return value

    def text(self) -> str:
        """A string that ends with a zero byte."""
        end = self._data.index(b"\0", self._position)
        text = self._data[self._position : end].decode()
        self._position = end + 1
        return text

    def row(self, relation: Relation) -> Row:
        """The values of a tuple by column."""
        row: Row = {}
        for name in relation.columns[: self.take("H")]:
            match self.take("c"):
                case b"n":
                    row[name] = None
                case b"t":
                    length = self.take("I")
                    row[name] = self._data[self._position : self._position + length].decode()
                    self._position += length
        return row
