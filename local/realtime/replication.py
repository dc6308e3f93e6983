"""The write-ahead log: reads what was committed from a temporary slot and hands it to the changes and the hub.

The slot belongs to the connection that reads it, so nothing is left of it when the process or Postgres dies, and it
moves with every reading, so it holds back no log. (The stack also sets max_slot_wal_keep_size.) Where the slot is
lost a new one is made, and every subscription is told by a new `system` message that it may have missed something.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NoReturn, Protocol, cast

import psycopg
import structlog
from psycopg import AsyncConnection

from local.realtime.database import connect
from local.realtime.frames import MAX_PAYLOAD_BYTES, UserBroadcast
from local.realtime.hub import Hub, Topic
from local.realtime.pgoutput import Change, Decoder, Row

PUBLICATION = "supabase_realtime"
MESSAGES_PUBLICATION = "supabase_realtime_messages_publication"
POLL_SECONDS = 0.05
IDLE_SECONDS = 0.25  # nobody listens
RETRY_SECONDS = (0.1, 2.0)  # first and longest
KEEP_MESSAGES = "72 hours"  # for replay
CLEAN_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """What is told of changes to published tables."""

    async def changed(self, change: Change) -> None: ...  # noqa: D102
    def reading_again(self) -> None: ...  # noqa: D102


class Replication:
    """One reader of the log for the whole process."""

    def __init__(self, url: str, hub: Hub, listener: Listener) -> None:
        self._url = url
        self._hub = hub
        self._listener = listener
        self.ready = asyncio.Event()
        """Set while there is a slot: what is committed from now on will be read."""

    async def run(self) -> NoReturn:
        """Read until cancelled; whatever goes wrong, begin again with a new slot."""
        wait = RETRY_SECONDS[0]
        while True:
            try:
                async with await connect(self._url, "replication") as connection:
                    # Postgres would log each reading in six lines; errors are in this process' own log.
                    await connection.execute("set log_min_messages = fatal")
                    await self._create_slot(connection)
                    self._begin()
                    wait = RETRY_SECONDS[0]
                    await self._read(connection)
            except psycopg.Error as error:
                log.warning("replication_lost", error=str(error).strip(), effect="a new slot will be made")
            finally:
                self.ready.clear()
            await asyncio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS[1])

    async def _create_slot(self, connection: AsyncConnection) -> None:
        self._slot = f"realtime_{connection.info.backend_pid}"
        await connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput', true)", (self._slot,))

    def _begin(self) -> None:
        log.info("replication_ready", slot=self._slot)
        self.ready.set()
        self._listener.reading_again()

    async def _read(self, connection: AsyncConnection) -> NoReturn:
        seen, cleaned = None, 0.0
        loop = asyncio.get_running_loop()
        while True:
            cursor = await connection.execute("select pg_current_wal_flush_lsn()::text")
            (position,) = await cursor.fetchone() or (None,)
            listening = self._hub.listening()
            if position != seen:
                if listening:
                    await self._read_to(connection, position)
                else:
                    await connection.execute("select pg_replication_slot_advance(%s, %s)", (self._slot, position))
                seen = position
            if loop.time() - cleaned > CLEAN_SECONDS:
                await connection.execute(
                    "delete from realtime.messages where inserted_at < now() - %s::interval", (KEEP_MESSAGES,)
                )
                cleaned = loop.time()
            await asyncio.sleep(POLL_SECONDS if listening else IDLE_SECONDS)

    async def _read_to(self, connection: AsyncConnection, position: str) -> None:
        """Hand on everything up to `position`. Rows are streamed: a transaction may have changed millions."""
        decoder = Decoder()
        arguments = (self._slot, position, f"{PUBLICATION},{MESSAGES_PUBLICATION}")
        changes = connection.cursor(binary=True).stream(
            "select data from pg_logical_slot_get_binary_changes(%s, %s, null,"
            " 'proto_version', '1', 'publication_names', %s)",
            arguments,
        )
        # Left open, it would keep the connection locked.
        async with aclosing(cast("AsyncGenerator[tuple[bytes]]", changes)):
            async for (data,) in changes:
                change = decoder.decode(data)
                if change is None:
                    continue
                if (change.relation.schema, change.relation.table) == ("realtime", "messages"):
                    if change.type == "INSERT":
                        self._broadcast(change.new)
                else:
                    await self._listener.changed(change)

    def _broadcast(self, row: Row) -> None:
        """A row of realtime.messages is a broadcast from the database."""
        topic, event, payload, binary = (row.get(name) for name in ("topic", "event", "payload", "binary_payload"))
        private = row.get("private")
        if topic is None or event is None or private is None or (payload is None and binary is None):
            return
        if len(payload or binary or "") > MAX_PAYLOAD_BYTES:
            log.warning("broadcast_too_large", topic=topic, name=event)
            return
        meta = {"id": row["id"]}
        broadcast = (
            UserBroadcast(event, "json", payload.encode(), meta)
            if binary is None and payload is not None
            else UserBroadcast(event, "binary", bytes.fromhex((binary or "").removeprefix("\\x")), meta)
        )
        self._hub.broadcast(Topic(topic, private == "t"), broadcast)
