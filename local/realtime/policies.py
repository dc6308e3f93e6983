"""What the policies on realtime.messages let a caller do on a private topic.

The policies are asked by trying: rows are read, or written, as the caller, and rolled back. Policies that tell
broadcasts from presence do it by the column `extension`; the topic is realtime.topic().
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import AsyncConnection

from local.realtime.database import Database, speak_for
from local.realtime.tokens import Claims

EXTENSIONS = ("broadcast", "presence")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Caller:
    """Who asks: the claims of his token and the `x-…` headers of his request."""

    claims: Claims
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Permissions:
    """Reading or writing, by extension."""

    broadcast: bool
    presence: bool


async def may_read(database: Database, caller: Caller, topic: str) -> Permissions:
    """What the caller may receive. A policy that raises allows nothing. Raises psycopg.OperationalError."""
    probes = {extension: uuid.uuid4() for extension in EXTENSIONS}
    try:
        async with database.asking() as connection:
            for extension, probe in probes.items():
                await connection.execute(
                    "insert into realtime.messages (id, topic, extension) values (%s, %s, %s)",
                    (probe, topic, extension),
                )
            await _act_as(connection, caller, topic)
            cursor = await connection.execute(
                "select id from realtime.messages where id = any(%s)", (list(probes.values()),)
            )
            seen = {row[0] for row in await cursor.fetchall()}
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        log.error("policy_failed", topic=topic, error=str(error))
        return Permissions(False, False)
    return Permissions(**{extension: probe in seen for extension, probe in probes.items()})


async def may_write(database: Database, caller: Caller, topic: str) -> Permissions:
    """What the caller may send. A policy that raises allows nothing. Raises psycopg.OperationalError."""
    allowed = dict.fromkeys(EXTENSIONS, False)
    try:
        async with database.asking() as connection:
            await _act_as(connection, caller, topic)
            for extension in EXTENSIONS:
                try:
                    async with connection.transaction(force_rollback=True):
                        await connection.execute(
                            "insert into realtime.messages (topic, extension) values (%s, %s)", (topic, extension)
                        )
                        allowed[extension] = True
                except psycopg.errors.InsufficientPrivilege:
                    continue
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        log.error("policy_failed", topic=topic, error=str(error))
        return Permissions(False, False)
    return Permissions(**allowed)


async def _act_as(connection: AsyncConnection, caller: Caller, topic: str) -> None:
    await connection.execute(
        "select set_config('realtime.topic', %s, true), set_config('request.headers', %s, true)",
        (topic, json.dumps(dict(caller.headers))),
    )
    await speak_for(connection, caller.claims)
