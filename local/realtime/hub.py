"""Who is on which topic: passes broadcasts on, and keeps who is present.

A private topic and a public one of the same name are two topics.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from local.realtime.frames import UserBroadcast, dumps

Meta = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Topic:
    """A name without the prefix `realtime:`, and whether it is private."""

    name: str
    private: bool


class Member(Protocol):
    """A joined channel as the hub sees it."""

    topic: Topic
    may_read_broadcasts: bool
    may_read_presence: bool
    replayed: frozenset[str]

    def send_broadcast(self, broadcast: UserBroadcast | str) -> None: ...  # noqa: D102
    def send_event(self, event: str, payload: str) -> None: ...  # noqa: D102


@dataclass
class _Room:
    members: dict[Member, None] = field(default_factory=dict)  # in the order of joining
    present: dict[Member, tuple[str, Meta]] = field(default_factory=dict)


class Hub:
    """All topics that somebody has joined."""

    def __init__(self) -> None:
        self._rooms: dict[Topic, _Room] = {}

    def members(self) -> Iterator[Member]:
        """Every joined channel."""
        for room in list(self._rooms.values()):
            yield from list(room.members)

    def listening(self) -> bool:
        """Whether anybody has joined anything."""
        return bool(self._rooms)

    def join(self, member: Member) -> None:
        """From now on the member gets what is sent to its topic."""
        self._rooms.setdefault(member.topic, _Room()).members[member] = None

    def leave(self, member: Member) -> None:
        """The member gets nothing any more and is no longer present."""
        room = self._rooms.get(member.topic)
        if room is None or member not in room.members:
            return
        self.untrack(member)
        del room.members[member]
        if not room.members:
            del self._rooms[member.topic]

    def broadcast(self, topic: Topic, broadcast: UserBroadcast | str, sender: Member | None = None) -> None:
        """Pass on a broadcast (or the JSON payload of one) to everybody on the topic but its sender."""
        room = self._rooms.get(topic)
        if room is None:
            return
        message_id = broadcast.meta.get("id") if isinstance(broadcast, UserBroadcast) and broadcast.meta else None
        for member in list(room.members):
            if member is not sender and member.may_read_broadcasts and message_id not in member.replayed:
                member.send_broadcast(broadcast)

    def presence(self, topic: Topic) -> str:
        """Who is present, as the payload of `presence_state`."""
        room = self._rooms.get(topic)
        return dumps(_by_key(list(room.present.values()) if room else []))

    def track(self, member: Member, key: str, payload: Meta) -> None:
        """The member is present under `key`; said again, its payload changes."""
        present = self._rooms[member.topic].present
        before = present.get(member)
        meta = {**payload, "phx_ref": secrets.token_urlsafe(8)}
        if before is not None:
            meta["phx_ref_prev"] = before[1]["phx_ref"]
        present[member] = (key, meta)
        self._tell(member.topic, joins=[(key, meta)], leaves=[before] if before else [])

    def untrack(self, member: Member) -> None:
        """The member is no longer present."""
        left = self._rooms[member.topic].present.pop(member, None)
        if left is not None:
            self._tell(member.topic, joins=[], leaves=[left])

    def _tell(self, topic: Topic, joins: list[tuple[str, Meta]], leaves: list[tuple[str, Meta]]) -> None:
        payload = dumps({"joins": _by_key(joins), "leaves": _by_key(leaves)})
        for member in list(self._rooms[topic].members):
            if member.may_read_presence:
                member.send_event("presence_diff", payload)


def _by_key(present: list[tuple[str, Meta]]) -> dict[str, dict[str, list[Meta]]]:
    grouped: dict[str, dict[str, list[Meta]]] = {}
    for key, meta in present:
        grouped.setdefault(key, {"metas": []})["metas"].append(meta)
    return grouped
