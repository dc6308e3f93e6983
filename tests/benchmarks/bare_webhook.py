"""`python -m tests.benchmarks.bare_webhook PORT DATABASE`: a handler that does one insert, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import sys

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CONNECTIONS = 8


async def main(port: int, database_url: str) -> None:
    """Serve until killed."""
    free: asyncio.Queue[psycopg.AsyncConnection[tuple[object, ...]]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await psycopg.AsyncConnection.connect(database_url, autocommit=True))
    await (await free.get()).execute("create table if not exists public.bare_events (body text)")
    free.put_nowait(await psycopg.AsyncConnection.connect(database_url, autocommit=True))

    async def insert(request: Request) -> Response:
        body = await request.body()
        connection = await free.get()
        try:
            await connection.execute("insert into public.bare_events values (%s)", (body.decode(),))
        finally:
            free.put_nowait(connection)
        return JSONResponse({})

    app = Starlette(routes=[Route("/webhooks/stripe", insert, methods=["POST"])])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    await uvicorn.Server(config).serve(sockets=[socket.create_server(("127.0.0.1", port))])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
