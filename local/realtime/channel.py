"""One joined topic of one connection: what the client sends there, and what it is sent."""

import asyncio
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import psycopg
import structlog

from local.realtime import messages, policies
from local.realtime.changes import Changes
from local.realtime.database import Database
from local.realtime.frames import MAX_PAYLOAD_BYTES, Message, UserBroadcast, dumps
from local.realtime.hub import Hub, Topic
from local.realtime.policies import Caller, Permissions
from local.realtime.replication import Replication
from local.realtime.subscriptions import SubscriptionError, Wanted, identify, parse
from local.realtime.tokens import Keys, TokenError, check_expiry

READY_SECONDS = 10.0  # for `replication_ready`
RETRY_SECONDS = 1.0
MAX_WAIT_SECONDS = 300.0  # between two looks at the token's expiry
PREFIX = "realtime:"

log = structlog.get_logger(__name__)


class JoinError(Exception):
    """The join is refused; the message is the reason the client gets."""


@dataclass(frozen=True)
class Services:
    """What the whole server shares."""

    keys: Keys
    hub: Hub
    changes: Changes
    database: Database
    replication: Replication


class Sender(Protocol):
    """A connection as its channels see it."""

    def push(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: str) -> None: ...  # noqa: D102
    def push_broadcast(self, topic: str, broadcast: UserBroadcast) -> None: ...  # noqa: D102
    def closed(self, channel: "Channel") -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Config:
    """What a join asks for. Booleans may be strings; what cannot be read is as if it were not there."""

    private: bool
    ack: bool
    own: bool
    presence: bool
    presence_key: str
    replay: Mapping[str, Any] | None
    wants_ready: bool
    changes: tuple[dict[str, Any], ...]
    is_legacy: bool

    @classmethod
    def read(cls, payload: Mapping[str, Any], topic: str) -> Self:
        """The configuration in a join's payload; without one, the topic names a table as clients once did."""
        config = payload.get("config")
        is_legacy = "config" not in payload
        config = config if isinstance(config, dict) else {}
        broadcast, presence = _dict(config.get("broadcast")), _dict(config.get("presence"))
        changes = config.get("postgres_changes")
        entries = [entry for entry in changes if isinstance(entry, dict)] if isinstance(changes, list) else []
        if is_legacy:
            entries = [dict(zip(("schema", "table", "filter"), topic.split(":", 2), strict=False))]
        replay = broadcast.get("replay")
        return cls(
            private=_flag(config.get("private")),
            ack=_flag(broadcast.get("ack")),
            own=_flag(broadcast.get("self")),
            presence=_flag(presence.get("enabled")),
            presence_key=str(presence.get("key") or uuid.uuid1()),
            replay=replay if isinstance(replay, dict) else None,
            wants_ready=_flag(broadcast.get("replication_ready")),
            changes=tuple(entries),
            is_legacy=is_legacy,
        )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _flag(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


class Channel:
    """Made by `join`; ends with `close`."""

    def __init__(self, services: Services, sender: Sender, message: Message, headers: Mapping[str, str]) -> None:
        payload = _dict(message.payload)
        self._services = services
        self._sender = sender
        self._headers = headers
        self._full_topic = message.topic
        self._join_ref = message.join_ref
        name = message.topic.removeprefix(PREFIX)
        self.config = Config.read(payload, name)
        self.topic = Topic(name, self.config.private)
        self.may_read_broadcasts = True
        self.may_read_presence = True
        self.replayed: frozenset[str] = frozenset()
        self._may_write: Permissions | None = None
        self._tracked: dict[str, Any] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # joining and leaving

    async def join(self, message: Message, connection_token: str) -> None:
        """Answer a join and begin to listen. Raises JoinError."""
        if not self.topic.name:
            raise JoinError("TopicNameRequired: You must provide a topic name")
        self._token = _token(_dict(message.payload), connection_token)
        try:
            self._claims = self._services.keys.claims(self._token)
            await self._read_permissions()
            replay = await self._replay()
        except TokenError as error:
            raise JoinError(error.reason) from None
        except PermissionError as error:
            raise JoinError(f"Unauthorized: {error}") from None
        except messages.ReplayError as error:
            raise JoinError(f"UnableToReplayMessages: {error}") from None
        except psycopg.OperationalError as error:
            log.warning("database_away", error=str(error).strip())
            reason = "UnableToConnectToProject: Realtime was unable to connect to the project database"
            raise JoinError(reason) from None
        entries = [{**entry, "id": identify(entry)} for entry in self.config.changes]
        self.reply(message, "ok", {"postgres_changes": entries})
        self._services.hub.join(self)
        for broadcast in replay:
            self.send_broadcast(broadcast)
        if self.config.presence and self.may_read_presence:
            self.send_event("presence_state", self._services.hub.presence(self.topic), self._join_ref)
        self._start("expiry", self._watch_expiry())
        if self.config.changes:
            self._start("changes", self._subscribe())
        if self.config.wants_ready:
            self._start("ready", self._tell_when_ready())

    def close(self) -> None:
        """End: nothing is sent any more but `phx_close`, and nothing runs."""
        self._services.hub.leave(self)
        self._services.changes.unsubscribe(self)
        for task in self._tasks.values():
            if task is not asyncio.current_task():
                task.cancel()
        self._sender.push(self._join_ref, self._join_ref, self._full_topic, "phx_close", "{}")
        self._sender.closed(self)

    def _shut_down(self, reason: str) -> None:
        self._system("system", "error", reason)
        self.close()

    # what the client sends

    async def handle(self, message: Message) -> None:
        """Do what a message on this topic asks for."""
        match message.event:
            case "phx_leave":
                self.reply(message, "ok", {})
                self.close()
            case "broadcast":
                await self._broadcast(message)
            case "presence":
                await self._presence(message)
            case "access_token":
                await self._refresh(_dict(message.payload).get("access_token"))
            case _:
                log.info("unexpected_message", name=message.event, topic=self.topic.name)

    async def _broadcast(self, message: Message) -> None:
        if not await self._may("broadcast"):
            return
        is_raw = isinstance(message.payload, UserBroadcast)
        if not is_raw and not isinstance(message.payload, dict):
            log.info("unexpected_message", name=message.event, topic=self.topic.name)
            return
        broadcast: UserBroadcast | str = message.payload if is_raw else dumps(message.payload)
        is_small = len(broadcast.payload if isinstance(broadcast, UserBroadcast) else broadcast) <= MAX_PAYLOAD_BYTES
        if is_small:
            self._services.hub.broadcast(self.topic, broadcast, None if self.config.own else self)
        if self.config.ack:
            self.reply(message, "ok" if is_small else "error", {} if is_small else "payload_size_exceeded")

    async def _presence(self, message: Message) -> None:
        payload = _dict(message.payload)
        match str(payload.get("event", "")).lower():
            case "":
                self.reply(message, "ok", {})
            case "track":
                meta = payload.get("payload", {})
                if not isinstance(meta, dict):
                    self.reply(message, "error", {"reason": "Presence track payload must be a map"})
                elif not await self._may("presence"):
                    self.reply(message, "error", {})
                elif len(dumps(meta)) > MAX_PAYLOAD_BYTES:
                    self._shut_down("Track message size exceeded")
                else:
                    if meta != self._tracked:
                        self._tracked = meta
                        self._services.hub.track(self, self.config.presence_key, meta)
                    self.reply(message, "ok", {})
            case "untrack":
                self._tracked = None
                self._services.hub.untrack(self)
                self.reply(message, "ok", {})
            case _:
                self.reply(message, "error", {})

    async def _may(self, extension: str) -> bool:
        """Whether the client may send broadcasts or presence here; asked once for a token."""
        if not self.config.private:
            return True
        if self._may_write is None:
            try:
                self._may_write = await policies.may_write(self._services.database, self._caller, self.topic.name)
            except psycopg.OperationalError as error:
                log.warning("database_away", error=str(error).strip())
                return False
        return bool(getattr(self._may_write, extension))

    async def _refresh(self, token: object) -> None:
        """A new token: the channel goes on with its rights, or ends."""
        if not isinstance(token, str) or token.startswith("sb_") or token == self._token:
            return
        could_read = (self.may_read_broadcasts, self.may_read_presence)
        self._token, self._may_write = token, None
        try:
            self._claims = self._services.keys.claims(token)
            await self._read_permissions()
        except (TokenError, PermissionError) as error:
            self._shut_down(str(error))
            return
        except psycopg.OperationalError:
            self._shut_down("Realtime was unable to connect to the project database")
            return
        can_read = (self.may_read_broadcasts, self.may_read_presence)
        if any(before and not now for before, now in zip(could_read, can_read, strict=True)):
            self._shut_down(f"You no longer have permission to read from this Channel topic: {self.topic.name}")
            return
        self._start("expiry", self._watch_expiry())
        if self.config.changes:
            self._start("changes", self._subscribe())

    # rights

    @property
    def _caller(self) -> Caller:
        return Caller(self._claims, self._headers)

    async def _read_permissions(self) -> None:
        """Ask the policies of a private topic. Raises PermissionError where they let nothing be read."""
        if not self.config.private:
            return
        allowed = await policies.may_read(self._services.database, self._caller, self.topic.name)
        if not (allowed.broadcast or allowed.presence):
            raise PermissionError(f"You do not have permissions to read from this Channel topic: {self.topic.name}")
        self.may_read_broadcasts, self.may_read_presence = allowed.broadcast, allowed.presence

    async def _watch_expiry(self) -> None:
        while True:
            try:
                check_expiry(self._claims)
            except TokenError as error:
                self._shut_down(error.message)
                return
            left = self._claims["exp"] - time.time()
            await asyncio.sleep(min(MAX_WAIT_SECONDS, max(left, 0.05)))

    # Postgres Changes and messages of the database

    async def _subscribe(self) -> None:
        """Subscribe to changes; a `system` message says when it is done, or why it cannot be."""
        services = self._services
        try:
            wanted: list[Wanted] = [parse(entry) for entry in self.config.changes]
            while True:
                await services.replication.ready.wait()
                try:
                    await services.changes.subscribe(self, wanted, self._claims)
                    break
                except psycopg.OperationalError as error:
                    log.warning("database_away", error=str(error).strip())
                    await asyncio.sleep(RETRY_SECONDS)
        except SubscriptionError as error:
            services.changes.unsubscribe(self)
            self._system("postgres_changes", "error", str(error))
        else:
            self.subscribed()

    def subscribed(self) -> None:
        """Say that changes are told from now on."""
        self._system("postgres_changes", "ok", "Subscribed to PostgreSQL")

    async def _replay(self) -> list[UserBroadcast]:
        if self.config.replay is None:
            return []
        if not self.config.private:
            raise messages.ReplayError("Replay is not allowed for public channels")
        if not self.may_read_broadcasts:
            raise PermissionError(f"You do not have permissions to read from this Channel topic: {self.topic.name}")
        replay = await messages.replay(self._services.database, self.topic.name, self.config.replay)
        self.replayed = frozenset(str((broadcast.meta or {})["id"]) for broadcast in replay)
        return replay

    async def _tell_when_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._services.replication.ready.wait()
        except TimeoutError:
            self._shut_down("Replication connection was not established in time")
        else:
            self._system("system", "ok", "Replication connection established")

    # what the client is sent

    def reply(self, message: Message, status: str, response: object) -> None:
        """Answer a message."""
        payload = dumps({"status": status, "response": response})
        self._sender.push(message.join_ref, message.ref, message.topic, "phx_reply", payload)

    def send_broadcast(self, broadcast: UserBroadcast | str) -> None:
        """A broadcast: as it came, or the JSON payload of the event."""
        if isinstance(broadcast, str):
            self.send_event("broadcast", broadcast)
        else:
            self._sender.push_broadcast(self._full_topic, broadcast)

    def send_event(self, event: str, payload: str, join_ref: str | None = None) -> None:
        """An event with a JSON payload."""
        self._sender.push(join_ref, None, self._full_topic, event, payload)

    def send_change(self, ids: Sequence[int], event: str, data: str) -> None:
        """A change, for the entries with these ids."""
        if self.config.is_legacy:
            self.send_event(event, data)
        else:
            self.send_event("postgres_changes", f'{{"ids":{dumps(list(ids))},"data":{data}}}')

    def _system(self, extension: str, status: str, message: str) -> None:
        payload = {"extension": extension, "status": status, "message": message, "channel": self.topic.name}
        self.send_event("system", dumps(payload), self._join_ref)

    def _start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run in the background, in place of what ran under this name."""
        running = self._tasks.pop(name, None)
        if running is not None and running is not asyncio.current_task():
            running.cancel()
        self._tasks[name] = asyncio.create_task(coroutine)


def _token(payload: Mapping[str, Any], connection_token: str) -> str:
    """The token of a join; an API key stands for that of the connection."""
    for name in ("user_token", "access_token"):
        token = payload.get(name)
        if isinstance(token, str):
            return connection_token if token.startswith("sb_") else token
    return connection_token
