"""Connections to the stack's database, as its superuser: every query takes on the role it speaks for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection

from local.realtime.tokens import Claims

CONNECTIONS = 4
CONNECT_SECONDS = 3
STATEMENT_MILLISECONDS = 10_000


async def connect(url: str, purpose: str) -> AsyncConnection:
    """A new connection in autocommit mode."""
    return await AsyncConnection.connect(
        url, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name=f"realtime {purpose}"
    )


class Database:
    """A few connections for questions whose answer must not change anything."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[AsyncConnection] = []

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction that is always rolled back. Raises psycopg.Error."""
        async with self._free:
            connection = await self._connection()
            try:
                async with connection.transaction(force_rollback=True):
                    yield connection
            finally:
                if not connection.closed:
                    self._idle.append(connection)

    async def _connection(self) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.execute("select")  # the server may have restarted since
            except psycopg.OperationalError:
                await connection.close()
            else:
                return connection
        connection = await connect(self._url, "queries")
        await connection.execute(f"set statement_timeout = {STATEMENT_MILLISECONDS}")
        return connection

    async def close(self) -> None:
        """End the idle connections."""
        for connection in self._idle:
            await connection.close()


async def speak_for(connection: AsyncConnection, claims: Claims) -> None:
    """Take on the role and the claims of a token until the transaction ends."""
    await connection.execute(
        "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true),"
        " set_config('request.jwt.claim.sub', %s, true), set_config('request.jwt.claim.role', %s, true)",
        (str(claims["role"]), json.dumps(claims), str(claims.get("sub") or ""), str(claims["role"])),
    )
