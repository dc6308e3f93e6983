"""Replay: what was lately broadcast from the database on a private topic."""

from collections.abc import Mapping
from typing import Any

from local.realtime.database import Database
from local.realtime.frames import UserBroadcast

DEFAULT_MESSAGES = MAX_MESSAGES = 25


class ReplayError(Exception):
    """Nothing can be replayed; the message says why."""


async def replay(database: Database, topic: str, wanted: Mapping[str, Any]) -> list[UserBroadcast]:
    """The last `limit` messages since `since` (milliseconds since 1970), oldest first.

    Raises ReplayError, and psycopg.OperationalError where the database cannot be asked.
    """
    since, limit = wanted.get("since"), wanted.get("limit") or DEFAULT_MESSAGES
    if not (type(since) is int and type(limit) is int and abs(since) < 2**53):
        raise ReplayError("Replay params are not valid")
    async with database.asking() as connection:
        cursor = await connection.execute(
            """
            select id::text, event, payload::text, binary_payload
            from realtime.messages
            where topic = %s and private and extension = 'broadcast'
                and inserted_at >= to_timestamp(%s / 1000.0) at time zone 'utc'
            order by inserted_at desc
            limit %s
            """,
            (topic, since, max(1, min(limit, MAX_MESSAGES))),
        )
        rows = await cursor.fetchall()
    return [_broadcast(*row) for row in reversed(rows)]


def _broadcast(identifier: str, event: str | None, payload: str | None, binary: bytes | None) -> UserBroadcast:
    meta = {"replayed": True, "id": identifier}
    if binary is not None:
        return UserBroadcast(event or "", "binary", binary, meta)
    return UserBroadcast(event or "", "json", (payload or "null").encode(), meta)
