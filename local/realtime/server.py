"""The endpoints below /realtime/v1: the websocket, and broadcasts over HTTP.

Usage: python -m local.realtime.server <stack directory>

Reads <stack directory>/realtime.json (written by process.py) and ends when its standard input does, which is a socket
from the process that watches over it (__main__.py).
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from local.log import configure_logging
from local.realtime import policies
from local.realtime.changes import Changes
from local.realtime.channel import Services
from local.realtime.connection import Connection
from local.realtime.database import Database
from local.realtime.frames import MAX_PAYLOAD_BYTES, PROTOCOLS, UserBroadcast, dumps
from local.realtime.hub import Hub, Topic
from local.realtime.policies import Caller
from local.realtime.replication import Replication
from local.realtime.tokens import Claims, Keys, TokenError

MAX_FRAME_BYTES = MAX_BODY_BYTES = 5_000_000
SHUTDOWN_SECONDS = 2
TOO_LARGE = "Payload size exceeds tenant limit"

log = structlog.get_logger(__name__)


class Server:
    """The endpoints on shared services."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/realtime/v1/api/ping", self.ping),
                Route("/realtime/v1/api/broadcast", self.broadcast, methods=["POST"]),
                Route("/realtime/v1/api/broadcast/{rest:path}", self.broadcast_one, methods=["POST"]),
                WebSocketRoute("/realtime/v1/websocket", self.websocket),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        reading = asyncio.create_task(self._services.replication.run())
        reading.add_done_callback(_end_with)
        yield
        reading.remove_done_callback(_end_with)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await self._services.database.close()

    async def health(self, _request: Request) -> Response:
        """Whether the process serves."""
        return JSONResponse({"status": "ok"})

    async def ping(self, _request: Request) -> Response:
        """What clients use to measure the way."""
        return JSONResponse({"message": "Success"})

    async def websocket(self, websocket: WebSocket) -> None:
        """Serve a client, or refuse the handshake with the reason as JSON."""
        protocol = PROTOCOLS.get(websocket.query_params.get("vsn", "1.0.0"))
        headers = websocket.headers
        token = headers.get("x-api-key") or websocket.query_params.get("apikey") or headers.get("apikey")
        if protocol is None:
            await websocket.send_denial_response(Response(status_code=403))
        elif not token:
            await websocket.send_denial_response(JSONResponse({"error": "API key is missing"}, 401))
        else:
            try:
                self._services.keys.claims(token)
            except TokenError as error:
                message = "Token has expired" if error.message.startswith("Token has expired") else error.message
                await websocket.send_denial_response(JSONResponse({"error": message}, 401))
            else:
                await Connection(self._services, websocket, protocol, token).serve()

    async def broadcast(self, request: Request) -> Response:
        """Several messages, each with its topic. Those on private topics that the caller may not write are left out."""
        claims = self._claims(request)
        if claims is None:
            return _unauthorized()
        text = await _body(request)
        if text is None:
            return Response(status_code=413)
        body = _json(text)
        if body is None:
            return Response(status_code=400)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            problem = "can't be blank" if messages in (None, []) else "is invalid"
            return _unprocessable({"messages": [problem]})
        problems = [_problems(message) for message in messages]
        if any(problems):
            return _unprocessable({"messages": problems})
        may_write: dict[str, bool] = {}
        for message in messages:
            topic = Topic(message["topic"], message.get("private") is True)
            if topic.private and topic.name not in may_write:
                may_write[topic.name] = await self._may_write(request, claims, topic.name)
            if not topic.private or may_write[topic.name]:
                payload = {"payload": message["payload"], "event": message["event"], "type": "broadcast"}
                meta = {"meta": {"id": message["id"]}} if isinstance(message.get("id"), str) else {}
                self._services.hub.broadcast(topic, dumps(payload | meta))
        return Response(status_code=202)

    async def broadcast_one(self, request: Request) -> Response:
        """One message: the topic and the event are in the path, the body is the payload."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in ("", "application/json", "application/octet-stream"):
            message = "Unsupported Media Type. Use application/json or application/octet-stream"
            return JSONResponse({"error": message}, 415)
        claims = self._claims(request)
        if claims is None:
            return _unauthorized()
        # A name may contain an encoded slash, which the decoded path does not tell from a separator.
        path = request.scope["raw_path"].decode().partition("/api/broadcast/")[2].split("/")
        if len(path) != 3 or path[1] != "events":
            return Response(status_code=404)
        topic = Topic(unquote(path[0]), request.query_params.get("private") == "true")
        body = await _body(request)
        if body is None or len(body) > MAX_PAYLOAD_BYTES:
            return _unprocessable({"payload": [TOO_LARGE]})
        if media_type == "application/octet-stream":
            broadcast = UserBroadcast(unquote(path[2]), "binary", body)
        else:
            payload = _json(body) if media_type else {}
            if payload is None:
                return Response(status_code=400)
            broadcast = UserBroadcast(unquote(path[2]), "json", dumps(payload).encode())
        if topic.private and not await self._may_write(request, claims, topic.name):
            return JSONResponse({"message": "Unauthorized"}, 403)
        self._services.hub.broadcast(topic, broadcast)
        return Response(status_code=202)

    def _claims(self, request: Request) -> Claims | None:
        """Whom the request speaks for, by its bearer token or else its API key."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        token = bearer if scheme.lower() == "bearer" and bearer else request.headers.get("apikey")
        try:
            return self._services.keys.claims(token) if token else None
        except TokenError:
            return None

    async def _may_write(self, request: Request, claims: Claims, topic: str) -> bool:
        caller = Caller(claims, dict(request.headers))
        try:
            return (await policies.may_write(self._services.database, caller, topic)).broadcast
        except psycopg.OperationalError as error:
            log.warning("database_away", error=str(error).strip())
            return False


def _problems(message: object) -> dict[str, list[str]]:
    """What is wrong with one of several messages."""
    if not isinstance(message, dict):
        return {"message": ["is invalid"]}
    problems = {}
    for name, kind in (("topic", str), ("event", str), ("payload", dict)):
        value = message.get(name)
        if value is None or value == "":
            problems[name] = ["can't be blank"]
        elif not isinstance(value, kind):
            problems[name] = ["is invalid"]
    if not isinstance(message.get("private"), bool | None):
        problems["private"] = ["is invalid"]
    if len(dumps(message.get("payload"))) > MAX_PAYLOAD_BYTES:
        problems["payload"] = [TOO_LARGE]
    return problems


async def _body(request: Request) -> bytes | None:
    """The body, None where it is too large to be read, or breaks off."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return None
    except ClientDisconnect:
        return None
    return bytes(body)


def _json(text: bytes) -> dict[str, Any] | None:
    """A body; what is JSON but no object comes under `_json`. None where it is no JSON."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else {"_json": body}


def _unauthorized() -> Response:
    return JSONResponse({"message": "Unauthorized"}, 401)


def _unprocessable(errors: Mapping[str, object]) -> Response:
    return JSONResponse({"errors": errors}, 422)


def _end_with(task: "asyncio.Task[None]") -> None:
    """A reader that crashed takes the process with it, which is then started anew."""
    log.critical("replication_crashed", exc_info=task.exception() if not task.cancelled() else None)
    signal.raise_signal(signal.SIGTERM)


def serve(directory: Path) -> None:
    """Serve until SIGTERM, or until standard input ends."""
    configure_logging()
    settings = json.loads((directory / "realtime.json").read_text("utf-8"))
    keys = Keys(settings["jwt_secret"], settings["publishable_key"], settings["secret_key"])
    hub, database = Hub(), Database(settings["database_url"])
    changes = Changes(settings["database_url"], database)
    services = Services(keys, hub, changes, database, Replication(settings["database_url"], hub, changes))
    config = uvicorn.Config(
        Server(services).app,
        host="127.0.0.1",
        port=settings["port"],
        log_level="warning",  # its messages about connections contain the API key
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=None,  # clients send heartbeats
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    asyncio.run(_serve(_WatchedServer(config)))


class _WatchedServer(uvicorn.Server):
    """Tells the process that watches over it when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        os.write(0, b"+")


async def _serve(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(0)
        server.should_exit = True

    loop.add_reader(0, end)  # nothing is ever sent here, so it is the end that makes it readable
    await server.serve()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
