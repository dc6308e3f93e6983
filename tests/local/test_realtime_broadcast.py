"""Broadcasts and presence, frame by frame: from clients, over HTTP, from SQL, on public and on private topics."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from psycopg import Connection

from tests.local.realtime_socket import Realtime, Socket

EMPTY_OK = {"status": "ok", "response": {}}
MESSAGE = {"type": "broadcast", "event": "moved", "payload": {"x": 1.5}}
TOPIC = "realtime:room"


@pytest.fixture
def sockets(realtime: Realtime) -> Iterator[tuple[Socket, Socket]]:
    """Two clients; the first speaks version 2, the second version 1."""
    with realtime.socket() as one, realtime.socket(vsn="1.0.0") as two:
        yield one, two


def push_frame(topic: str, event: str, payload: bytes, encoding: int, ref: str = "9", meta: str = "") -> bytes:
    parts = [part.encode() for part in ("j", ref, topic, event, meta)]
    return bytes([3, *map(len, parts), encoding]) + b"".join(parts) + payload


def broadcast_frame(topic: str, event: str, payload: bytes, encoding: int, meta: bytes = b"") -> bytes:
    parts = [topic.encode(), event.encode(), meta]
    return bytes([4, *map(len, parts), encoding]) + b"".join(parts) + payload


class TestFromClients:
    def test_others_get_it_as_it_was_sent(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room")
        two.join("room")
        one.push(TOPIC, "broadcast", MESSAGE | {"more": [1]})
        assert two.next("broadcast").payload == MESSAGE | {"more": [1]}
        two.push(TOPIC, "broadcast", MESSAGE)
        frame = one.next("broadcast")
        assert (frame.join_ref, frame.ref, frame.topic, frame.payload) == (None, None, TOPIC, MESSAGE)
        one.quiet("broadcast", "phx_reply")
        two.quiet("broadcast", "phx_reply")

    def test_the_sender_gets_it_where_he_asked_to(self, sockets: tuple[Socket, Socket]) -> None:
        one, _ = sockets
        one.join("room", broadcast={"self": True, "ack": True})
        assert one.reply(one.push(TOPIC, "broadcast", MESSAGE)) == EMPTY_OK
        assert one.next("broadcast").payload == MESSAGE

    def test_other_topics_do_not(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room")
        two.join("room:1")
        one.push(TOPIC, "broadcast", MESSAGE)
        two.quiet("broadcast")

    def test_json_in_a_binary_frame(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room", broadcast={"self": True, "ack": True})
        two.join("room")
        payload = json.dumps({"x": "ü"}).encode()
        one.connection.send(push_frame(TOPIC, "moved", payload, 1))
        assert one.next_binary() == broadcast_frame(TOPIC, "moved", payload, 1)
        assert one.reply("9") == EMPTY_OK
        assert two.next("broadcast").payload == {"type": "broadcast", "event": "moved", "payload": {"x": "ü"}}

    def test_bytes_in_a_binary_frame_reach_version_2_only(self, realtime: Realtime) -> None:
        with realtime.socket() as one, realtime.socket() as two, realtime.socket(vsn="1.0.0") as old:
            for socket in (one, two, old):
                socket.join("room")
            one.connection.send(push_frame(TOPIC, "raw", b"\x00\xff", 0, meta='{"a":1}'))
            assert two.next_binary() == broadcast_frame(TOPIC, "raw", b"\x00\xff", 0)
            one.quiet()
            old.quiet("broadcast")

    def test_what_only_looks_like_json_harms_nobody(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room")
        two.join("room")
        one.connection.send(push_frame(TOPIC, "e", b"no json", 1))
        one.connection.send(f'[null,"1","{TOPIC}","broadcast",{{"event":"e","payload":NaN}}]')
        one.connection.send(
            f'[null,"1","{TOPIC}","broadcast",{{"event":"\\ud800","payload":{"[" * 2000}{"]" * 2000}}}]'
        )
        one.connection.send("[" * 100_000)
        one.push(TOPIC, "broadcast", {"event": "\ud800"})
        assert two.next("broadcast").payload["event"] == "\ud800"
        assert one.reply(one.push("phoenix", "heartbeat", {})) == EMPTY_OK

    def test_three_megabytes_are_enough(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room", broadcast={"ack": True})
        two.join("room")
        reply = one.reply(one.push(TOPIC, "broadcast", {"event": "e", "payload": "x" * 3_100_000}))
        assert reply == {"status": "error", "response": "payload_size_exceeded"}
        assert one.reply(one.push(TOPIC, "broadcast", {"event": "e", "payload": "x" * 2_900_000})) == EMPTY_OK
        assert len(two.next("broadcast").payload["payload"]) == 2_900_000


class TestOverHttp:
    @pytest.fixture
    def url(self, realtime: Realtime) -> str:
        return f"{realtime.stack.state.api_url}/realtime/v1/api/broadcast"

    @pytest.fixture
    def key(self, realtime: Realtime) -> dict[str, str]:
        return {"apikey": realtime.stack.state.publishable_key}

    def test_several_messages(self, sockets: tuple[Socket, Socket], url: str, key: dict[str, str]) -> None:
        one, two = sockets
        one.join("room")
        two.join("other")
        messages = [
            {"topic": "room", "event": "a", "payload": {"n": 1}},
            {"topic": "other", "event": "b", "payload": {"n": 2}, "private": False, "id": "x"},
            {"topic": "room", "event": "c", "payload": {"n": 3}, "private": True},
        ]
        response = httpx.post(url, headers=key, json={"messages": messages})
        assert (response.status_code, response.content) == (202, b"")
        assert response.headers["access-control-allow-origin"] == "*"
        assert one.next("broadcast").payload == {"type": "broadcast", "event": "a", "payload": {"n": 1}}
        expected = {"type": "broadcast", "event": "b", "payload": {"n": 2}, "meta": {"id": "x"}}
        assert two.next("broadcast").payload == expected
        one.quiet("broadcast")

    def test_one_message(self, sockets: tuple[Socket, Socket], url: str, key: dict[str, str]) -> None:
        one, two = sockets
        one.join("a/b c")
        two.join("a/b c")
        address = f"{url}/a%2Fb%20c/events/e%2F1"
        assert httpx.post(address, headers=key, json={"n": 1}).status_code == 202
        assert one.next_binary() == broadcast_frame("realtime:a/b c", "e/1", b'{"n":1}', 1)
        assert two.next("broadcast").payload == {"type": "broadcast", "event": "e/1", "payload": {"n": 1}}
        binary = key | {"content-type": "application/octet-stream"}
        assert httpx.post(address, headers=binary, content=b"\x01\xfe").status_code == 202
        assert one.next_binary() == broadcast_frame("realtime:a/b c", "e/1", b"\x01\xfe", 0)
        two.quiet("broadcast")

    def test_callers_must_be_known(self, realtime: Realtime, url: str) -> None:
        message = {"messages": [{"topic": "room", "event": "e", "payload": {}}]}
        expired = {"authorization": f"Bearer {realtime.token(exp=1)}"}
        bearer = {"authorization": f"Bearer {realtime.token()}"}
        for address, body in ((url, message), (f"{url}/room/events/e", {})):
            for headers in ({}, {"apikey": "x"}, expired, {"authorization": "Basic eA=="}):
                response = httpx.post(address, headers=headers, json=body)
                assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})
            assert httpx.post(address, headers=bearer, json=body).status_code == 202

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            ({}, {"messages": ["can't be blank"]}),
            ({"messages": "x"}, {"messages": ["is invalid"]}),
            ({"messages": [{"event": "e", "payload": {}}]}, {"messages": [{"topic": ["can't be blank"]}]}),
            (
                {"messages": [{"topic": "t", "event": "e", "payload": {}}, {"topic": 1, "payload": "x"}]},
                {"messages": [{}, {"topic": ["is invalid"], "event": ["can't be blank"], "payload": ["is invalid"]}]},
            ),
        ],
    )
    def test_bad_messages_are_described(self, url: str, key: dict[str, str], body: Any, errors: Any) -> None:
        response = httpx.post(url, headers=key, json=body)
        assert (response.status_code, response.json()) == (422, {"errors": errors})

    def test_other_bad_requests(self, url: str, key: dict[str, str]) -> None:
        assert httpx.post(url, headers=key, content=b"no json").status_code == 400
        assert httpx.post(f"{url}/room/events/e", headers=key, content=b"").status_code == 202
        xml = key | {"content-type": "text/xml"}
        assert httpx.post(f"{url}/room/events/e", headers=xml, content=b"<x/>").status_code == 415
        assert httpx.post(f"{url}/room", headers=key, json={}).status_code == 404
        assert httpx.get(url, headers=key).status_code == 405
        large = {"x": "x" * 3_100_000}
        response = httpx.post(f"{url}/room/events/e", headers=key, json=large)
        assert response.json() == {"errors": {"payload": ["Payload size exceeds tenant limit"]}}
        many = {"messages": [{"topic": "room", "event": "e", "payload": large}] * 2}
        assert httpx.post(url, headers=key, json=many).status_code == 413

    def test_pages_of_every_origin_may_ask(self, url: str) -> None:
        headers = {"origin": "http://example.com", "access-control-request-method": "POST"}
        assert httpx.options(url, headers=headers).headers["access-control-allow-origin"] == "*"


class TestPresence:
    def test_who_is_there(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room", presence={"key": "a", "enabled": True})
        state = one.next("presence_state")
        assert (state.join_ref, state.payload) == ("j", {})
        assert one.reply(one.push(TOPIC, "presence", {"event": "track", "payload": {"n": 1}})) == EMPTY_OK
        joined = one.next("presence_diff").payload
        (meta,) = joined["joins"]["a"]["metas"]
        assert joined == {"joins": {"a": {"metas": [meta]}}, "leaves": {}}
        assert meta == {"n": 1, "phx_ref": meta["phx_ref"]}

        two.join("room", presence={"key": "b", "enabled": True})
        assert two.next("presence_state").payload == {"a": {"metas": [meta]}}

        one.push(TOPIC, "presence", {"event": "TRACK", "payload": {"n": 2}})
        changed = two.next("presence_diff").payload
        (newer,) = changed["joins"]["a"]["metas"]
        assert changed["leaves"] == {"a": {"metas": [meta]}}
        assert newer == {"n": 2, "phx_ref": newer["phx_ref"], "phx_ref_prev": meta["phx_ref"]}
        assert newer["phx_ref"] != meta["phx_ref"]

        assert one.reply(one.push(TOPIC, "presence", {"event": "untrack"})) == EMPTY_OK
        assert two.next("presence_diff").payload == {"joins": {}, "leaves": {"a": {"metas": [newer]}}}
        two.quiet("presence_diff")

    def test_leaving_and_vanishing_are_told(self, realtime: Realtime, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room")
        with realtime.socket() as gone:
            for socket in (two, gone):
                socket.join("room", presence={"key": "same"})
                socket.push(TOPIC, "presence", {"event": "track", "payload": {}})
                assert list(one.next("presence_diff").payload["joins"]) == ["same"]
        assert list(one.next("presence_diff").payload["leaves"]) == ["same"]
        two.push(TOPIC, "phx_leave", {})
        assert list(one.next("presence_diff").payload["leaves"]) == ["same"]
        with realtime.socket() as late:
            late.join("room", presence={"enabled": "true"})
            assert late.next("presence_state").payload == {}

    def test_saying_the_same_again_changes_nothing(self, sockets: tuple[Socket, Socket]) -> None:
        one, _ = sockets
        one.join("room")
        for _ in range(2):
            assert one.reply(one.push(TOPIC, "presence", {"event": "track", "payload": {"n": 1}})) == EMPTY_OK
        one.next("presence_diff")
        one.quiet("presence_diff")

    def test_what_cannot_be_tracked(self, sockets: tuple[Socket, Socket]) -> None:
        one, _ = sockets
        one.join("room")
        reply = one.reply(one.push(TOPIC, "presence", {"event": "track", "payload": "x"}))
        assert reply == {"status": "error", "response": {"reason": "Presence track payload must be a map"}}
        reply = one.reply(one.push(TOPIC, "presence", {"event": "dance"}))
        assert reply == {"status": "error", "response": {}}

    def test_without_a_key_the_server_gives_one(self, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room", presence={"key": ""})
        two.join("room")
        for socket in sockets:
            socket.push(TOPIC, "presence", {"event": "track", "payload": {}})
        keys = [next(iter(one.next("presence_diff").payload["joins"])) for _ in range(2)]
        assert len({*keys}) == 2


@pytest.fixture
def policies(live: Connection) -> Iterator[Connection]:
    """Users may read topics `read…`, read and write `write…`, and do so with broadcasts alone on `broadcast…`."""
    live.execute(
        """
        create policy test_read on realtime.messages for select to authenticated using (
            realtime.topic() similar to '(read|write)%'
            or (realtime.topic() like 'broadcast%' and extension = 'broadcast')
        );
        create policy test_write on realtime.messages for insert to authenticated with check (
            realtime.topic() like 'write%' or (realtime.topic() like 'broadcast%' and extension = 'broadcast')
        );
        """
    )
    yield live
    live.execute("drop policy test_read on realtime.messages; drop policy test_write on realtime.messages")


@pytest.mark.usefixtures("policies")
class TestPrivateTopics:
    @pytest.fixture
    def token(self, realtime: Realtime) -> str:
        return realtime.token(sub=str(uuid4()))

    def test_a_stranger_is_refused(self, realtime: Realtime, sockets: tuple[Socket, Socket], token: str) -> None:
        one, _ = sockets
        for topic, who in (("closed", token), ("read", None), ("read", realtime.token(role="nobody"))):
            reason = f"Unauthorized: You do not have permissions to read from this Channel topic: {topic}"
            assert one.join(topic, who, private=True) == {"status": "error", "response": {"reason": reason}}

    def test_readers_read_and_writers_write(self, sockets: tuple[Socket, Socket], token: str) -> None:
        one, two = sockets
        for topic, is_heard in (("read", False), ("write", True)):
            for socket in sockets:
                assert socket.join(topic, token, private=True, broadcast={"ack": True})["status"] == "ok"
            ref = one.push(f"realtime:{topic}", "broadcast", MESSAGE)
            if is_heard:
                assert one.reply(ref) == EMPTY_OK
                assert two.next("broadcast").payload == MESSAGE
            one.quiet("phx_reply")
            two.quiet("broadcast")

    def test_private_and_public_topics_of_one_name_are_two(self, sockets: tuple[Socket, Socket], token: str) -> None:
        one, two = sockets
        one.join("write", token, private=True)
        two.join("write")
        one.push("realtime:write", "broadcast", MESSAGE)
        two.push("realtime:write", "broadcast", MESSAGE)
        one.quiet("broadcast")
        two.quiet("broadcast")

    def test_presence_has_rights_of_its_own(self, sockets: tuple[Socket, Socket], token: str) -> None:
        one, two = sockets
        for socket in sockets:
            socket.join("broadcast-only", token, private=True, presence={"enabled": True})
        track = {"event": "track", "payload": {}}
        assert one.reply(one.push("realtime:broadcast-only", "presence", track))["status"] == "error"
        one.push("realtime:broadcast-only", "broadcast", MESSAGE)
        assert two.next("broadcast").payload == MESSAGE
        two.quiet("presence_diff", "presence_state")

        for socket in sockets:
            socket.join("write", token, private=True, presence={"enabled": True})
            assert socket.next("presence_state").payload == {}
        assert one.reply(one.push("realtime:write", "presence", track)) == EMPTY_OK
        two.next("presence_diff")

    def test_over_http(self, realtime: Realtime, sockets: tuple[Socket, Socket], token: str) -> None:
        one, _ = sockets
        one.join("write", token, private=True)
        one.join("read", token, private=True)
        url = f"{realtime.stack.state.api_url}/realtime/v1/api/broadcast"
        headers = {"authorization": f"Bearer {token}"}
        messages: list[dict[str, Any]] = [
            {"topic": topic, "event": topic, "payload": {}, "private": True} for topic in ("read", "write")
        ]
        assert httpx.post(url, headers=headers, json={"messages": messages}).status_code == 202
        assert one.next("broadcast").payload["event"] == "write"
        forbidden = httpx.post(f"{url}/read/events/e?private=true", headers=headers, json={})
        assert (forbidden.status_code, forbidden.json()) == (403, {"message": "Unauthorized"})
        assert httpx.post(f"{url}/write/events/e?private=true", headers=headers, json={}).status_code == 202
        one.next_binary()
        one.quiet("broadcast")

    def test_rights_that_a_new_token_lacks_end_the_channel(
        self, realtime: Realtime, sockets: tuple[Socket, Socket], token: str
    ) -> None:
        one, _ = sockets
        one.join("write", token, private=True)
        one.push("realtime:write", "access_token", {"access_token": realtime.token(role="anon")})
        message = "You do not have permissions to read from this Channel topic: write"
        assert one.next("system").payload["message"] == message
        one.next("phx_close")

    def test_rights_are_asked_again_with_a_new_token(
        self, realtime: Realtime, policies: Connection, sockets: tuple[Socket, Socket], token: str
    ) -> None:
        one, two = sockets
        one.join("write", token, private=True)
        two.join("write", token, private=True)
        one.push("realtime:write", "broadcast", MESSAGE)
        two.next("broadcast")
        policies.execute("alter policy test_write on realtime.messages with check (false)")
        one.push("realtime:write", "broadcast", MESSAGE)
        two.next("broadcast")  # rights are asked for once
        one.push("realtime:write", "access_token", {"access_token": realtime.token(sub=str(uuid4()))})
        one.push("realtime:write", "broadcast", MESSAGE)
        two.quiet("broadcast")


@pytest.mark.usefixtures("policies")
class TestFromSql:
    def test_send_reaches_those_who_may_read(
        self, realtime: Realtime, live: Connection, sockets: tuple[Socket, Socket]
    ) -> None:
        one, two = sockets
        token = realtime.token(sub=str(uuid4()))
        one.join("read", token, private=True)
        two.join("read", token, private=True)
        live.execute("select realtime.send('{\"x\": 1.50}', 'moved', 'read')")
        payload = two.next("broadcast").payload
        identifier = payload["meta"]["id"]
        assert payload == {
            "type": "broadcast",
            "event": "moved",
            "payload": {"x": 1.50, "id": identifier},
            "meta": {"id": identifier},
        }
        text = f'{{"x": 1.50, "id": "{identifier}"}}'.encode()
        meta = f'{{"id":"{identifier}"}}'.encode()
        frame = one.next_binary()
        assert frame[:5] == bytes([4, len("realtime:read"), len("moved"), len(meta), 1])
        assert json.loads(frame[5 + len("realtime:read") + len("moved") + len(meta) :]) == json.loads(text)
        live.execute("select realtime.send('{\"id\": \"own\"}', 'moved', 'read', true)")
        assert two.next("broadcast").payload["payload"] == {"id": "own"}

    def test_public_topics_and_bytes(self, live: Connection, sockets: tuple[Socket, Socket]) -> None:
        one, two = sockets
        one.join("room")
        two.join("room")
        live.execute("select realtime.send('{}', 'e', 'room', false)")
        assert two.next("broadcast").payload["event"] == "e"
        one.next_binary()
        live.execute("select realtime.send_binary('\\x00ff', 'raw', 'room', false)")
        assert one.next_binary().endswith(b"\x00\xff")
        live.execute("select realtime.send('{}', 'e', 'room')")  # private
        one.quiet("broadcast")
        two.quiet("broadcast")

    def test_a_trigger_tells_of_changes(
        self, realtime: Realtime, live: Connection, sockets: tuple[Socket, Socket]
    ) -> None:
        _, two = sockets
        two.join("read", realtime.token(sub=str(uuid4())), private=True)
        live.execute(
            """
            create table live.things (id int primary key, name text);
            create function live.tell() returns trigger language plpgsql as $$
            begin
                perform realtime.broadcast_changes('read', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
                return null;
            end $$;
            create trigger tell after insert or update or delete on live.things
            for each row execute function live.tell();
            insert into live.things values (1, 'a');
            update live.things set name = 'b';
            delete from live.things;
            """
        )
        a, b = {"id": 1, "name": "a"}, {"id": 1, "name": "b"}
        for operation, record, old_record in (("INSERT", a, None), ("UPDATE", b, a), ("DELETE", None, b)):
            message = two.next("broadcast").payload
            assert message["event"] == operation
            assert message["payload"] | {"id": None} == {
                "schema": "live", "table": "things", "operation": operation,
                "record": record, "old_record": old_record, "id": None,
            }  # fmt: skip

    def test_what_was_sent_lately_is_replayed(
        self, realtime: Realtime, live: Connection, sockets: tuple[Socket, Socket]
    ) -> None:
        one, two = sockets
        token, topic = realtime.token(sub=str(uuid4())), f"read-{uuid4()}"
        live.execute("select realtime.send('{\"n\": 0}', 'early', %s)", (topic,))
        time.sleep(0.05)
        since = int(time.time() * 1000)
        for number in range(3):
            live.execute("select realtime.send(jsonb_build_object('n', %s::int), 'e', %s)", (number, topic))
        time.sleep(0.5)
        assert (
            two.join(topic, token, private=True, broadcast={"replay": {"since": since, "limit": 2}})["status"] == "ok"
        )
        messages = [two.next("broadcast").payload for _ in range(2)]
        assert [message["payload"]["n"] for message in messages] == [1, 2]
        assert [message["meta"]["replayed"] for message in messages] == [True, True]
        two.quiet("broadcast")
        live.execute("select realtime.send_binary('\\x01', 'raw', %s)", (topic,))
        one.join(topic, token, private=True, broadcast={"replay": {"since": 0}})
        assert [one.next_binary()[-1:] for _ in range(5)][-1] == b"\x01"

    def test_what_cannot_be_replayed(self, realtime: Realtime, sockets: tuple[Socket, Socket]) -> None:
        one, _ = sockets
        token = realtime.token(sub=str(uuid4()))
        for private, replay, message in (
            (True, {"since": "x"}, "Replay params are not valid"),
            (True, {}, "Replay params are not valid"),
            (False, {"since": 0}, "Replay is not allowed for public channels"),
        ):
            reply = one.join("read", token, private=private, broadcast={"replay": replay})
            reason = f"UnableToReplayMessages: {message}"
            assert reply == {"status": "error", "response": {"reason": reason}}

    def test_a_client_can_wait_until_messages_flow(self, sockets: tuple[Socket, Socket]) -> None:
        one, _ = sockets
        one.join("room", broadcast={"replication_ready": True})
        assert one.next("system").payload == {
            "extension": "system",
            "status": "ok",
            "message": "Replication connection established",
            "channel": "room",
        }
