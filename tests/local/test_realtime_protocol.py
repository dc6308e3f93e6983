"""The wire protocol of Realtime, frame by frame: handshake, both versions, channels, tokens."""

import json
import time
from uuid import uuid4

import httpx
import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local.stack import Stack
from tests.local.realtime_socket import FOREVER, Realtime, Received

FORGED = jwt.encode({"role": "service_role", "exp": FOREVER}, "somebody else's secret, long enough", algorithm="HS256")
EMPTY_OK = {"status": "ok", "response": {}}


def refusal(realtime: Realtime, key: str | None, vsn: str | None = "2.0.0") -> tuple[int, object]:
    with pytest.raises(InvalidStatus) as raised:
        connect(realtime.url(key, vsn))
    response = raised.value.response
    return response.status_code, json.loads(response.body) if response.body else None


class TestHandshake:
    def test_a_key_is_required(self, realtime: Realtime) -> None:
        assert refusal(realtime, None) == (401, {"error": "API key is missing"})

    @pytest.mark.parametrize("key", ["nonsense", "sb_publishable_of_somebody_else", "a.b.c"])
    def test_the_key_must_be_one(self, realtime: Realtime, key: str) -> None:
        assert refusal(realtime, key) == (401, {"error": "The token provided is not a valid JWT"})

    def test_the_key_must_be_signed_by_the_project(self, realtime: Realtime) -> None:
        assert refusal(realtime, FORGED) == (401, {"error": "Failed to validate JWT signature"})

    def test_the_key_must_not_have_expired(self, realtime: Realtime) -> None:
        assert refusal(realtime, realtime.token(exp=1)) == (401, {"error": "Token has expired"})

    @pytest.mark.parametrize("missing", ["role", "exp"])
    def test_the_key_must_name_a_role_and_an_expiry(self, realtime: Realtime, missing: str) -> None:
        message = "Fields `role` and `exp` are required in JWT"
        assert refusal(realtime, realtime.token(**{missing: None})) == (401, {"error": message})

    def test_keys_of_every_kind_open_a_connection(self, realtime: Realtime) -> None:
        state = realtime.stack.state
        for key in (state.publishable_key, state.secret_key, realtime.token(role="anon")):
            with realtime.socket(key) as socket:
                assert socket.reply(socket.push("phoenix", "heartbeat", {})) == EMPTY_OK

    def test_the_key_may_come_in_a_header(self, realtime: Realtime) -> None:
        headers = {"x-api-key": realtime.stack.state.publishable_key}
        connect(realtime.url(None), additional_headers=headers).close()

    def test_an_unknown_version_is_refused(self, realtime: Realtime) -> None:
        assert refusal(realtime, realtime.stack.state.publishable_key, "3.0.0")[0] == 403

    def test_without_a_version_it_is_the_first(self, realtime: Realtime) -> None:
        with connect(realtime.url(realtime.stack.state.publishable_key, None)) as connection:
            connection.send(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": None}))
            reply = {"topic": "phoenix", "event": "phx_reply", "payload": EMPTY_OK, "ref": None}
            assert json.loads(connection.recv(5)) == reply

    def test_other_paths_are_not_there(self, realtime: Realtime) -> None:
        assert httpx.get(f"{realtime.stack.state.api_url}/realtime/v1/nothing").status_code == 404


class TestChannels:
    @pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
    def test_joining_and_leaving(self, realtime: Realtime, vsn: str) -> None:
        with realtime.socket(vsn=vsn) as socket:
            assert socket.join("room") == {"status": "ok", "response": {"postgres_changes": []}}
            socket.push("realtime:room", "phx_leave", {}, "j")
            reply, close = socket.next("phx_reply"), socket.next("phx_close")
            assert reply.payload == EMPTY_OK
            assert (close.payload, close.ref) == ({}, "j")

    def test_replies_carry_both_refs(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            ref = socket.push("realtime:room", "phx_join", {"config": {}}, "7")
            assert socket.next("phx_reply") == Received(
                "7", ref, "realtime:room", "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}
            )

    def test_joining_again_closes_the_first(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            socket.push("realtime:room", "phx_join", {"config": {}}, "1")
            socket.next("phx_reply")
            ref = socket.push("realtime:room", "phx_join", {"config": {}}, "2")
            assert socket.next("phx_close").join_ref == "1"
            assert socket.reply(ref)["status"] == "ok"

    def test_topics_are_in_the_namespace_realtime(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            unmatched = {"status": "error", "response": {"reason": "unmatched topic"}}
            assert socket.reply(socket.push("other:room", "phx_join", {})) == unmatched
            assert socket.reply(socket.push("realtime:never-joined", "broadcast", {})) == unmatched
            assert socket.reply(socket.push("realtime:never-joined", "phx_leave", {})) == EMPTY_OK

    def test_a_topic_needs_a_name(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            reason = "TopicNameRequired: You must provide a topic name"
            assert socket.join("") == {"status": "error", "response": {"reason": reason}}

    @pytest.mark.parametrize("frame", ["no json", "{}", "[1,2]", "[]", "null", '"text"', b"", b"\x03", b"\x03\xff\xff"])
    def test_what_is_no_frame_is_passed_over(self, realtime: Realtime, frame: str | bytes) -> None:
        with realtime.socket() as socket:
            socket.connection.send(frame)
            assert socket.reply(socket.push("phoenix", "heartbeat", {})) == EMPTY_OK

    def test_events_that_mean_nothing_are_passed_over(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            socket.join("room")
            socket.push("realtime:room", "postgres_changes", {"x": 1})
            socket.push("realtime:room", "broadcast", "no object")
            assert socket.reply(socket.push("phoenix", "heartbeat", {})) == EMPTY_OK
            socket.quiet("phx_reply", "phx_error")

    def test_a_hundred_channels_are_enough(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            assert all(socket.join(f"room-{number}")["status"] == "ok" for number in range(100))
            reason = "ChannelRateLimitReached: Too many channels"
            assert socket.join("room-100") == {"status": "error", "response": {"reason": reason}}
            assert socket.join("room-99")["status"] == "ok"

    def test_flags_may_be_strings_and_nonsense_is_as_if_absent(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            broadcast = {"ack": "TRUE", "self": 1}
            assert socket.join("room", broadcast=broadcast, presence=[], postgres_changes=None)["status"] == "ok"
            assert socket.reply(socket.push("realtime:room", "broadcast", {"event": "e"})) == EMPTY_OK
            socket.quiet("broadcast")


class TestTokens:
    @pytest.mark.parametrize(
        ("claims", "reason"),
        [
            ({"exp": 1}, "InvalidJWTToken: Token has expired"),
            ({"role": None}, "InvalidJWTToken: Fields `role` and `exp` are required in JWT"),
            ({"exp": None}, "InvalidJWTToken: Fields `role` and `exp` are required in JWT"),
        ],
    )
    def test_a_join_with_a_bad_token_is_refused(self, realtime: Realtime, claims: dict[str, int], reason: str) -> None:
        with realtime.socket() as socket:
            reply = socket.join("room", realtime.token(**claims))
            assert reply["status"] == "error"
            assert reply["response"]["reason"].startswith(reason)

    def test_malformed_and_forged_tokens_are_named(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            reply = socket.join("room", "nonsense")
            assert reply["response"]["reason"] == "MalformedJWT: The token provided is not a valid JWT"
            reply = socket.join("room", FORGED)
            assert reply["response"]["reason"] == "JwtSignatureError: Failed to validate JWT signature"

    def test_an_api_key_as_token_stands_for_that_of_the_connection(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            assert socket.join("room", "sb_publishable_whatever")["status"] == "ok"

    def test_a_channel_ends_with_its_token(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            assert socket.join("room", realtime.token(exp=int(time.time()) + 2))["status"] == "ok"
            system = socket.next("system")
            assert system.join_ref == "j"
            assert system.payload["message"].startswith("Token has expired ")
            assert system.payload | {"message": ""} == {
                "extension": "system", "status": "error", "message": "", "channel": "room",
            }  # fmt: skip
            socket.next("phx_close")
            assert socket.reply(socket.push("phoenix", "heartbeat", {})) == EMPTY_OK

    def test_a_new_token_in_time_keeps_it(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            socket.join("room", realtime.token(exp=int(time.time()) + 2))
            socket.push("realtime:room", "access_token", {"access_token": realtime.token(sub=str(uuid4()))})
            socket.quiet("system", "phx_close", "phx_reply", seconds=2.5)

    def test_tokens_that_say_nothing_new_change_nothing(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            token = realtime.token()
            socket.join("room", token)
            for same in (token, None, "sb_secret_x"):
                socket.push("realtime:room", "access_token", {"access_token": same})
            socket.quiet("system", "phx_close", "phx_reply")

    def test_a_bad_new_token_ends_the_channel(self, realtime: Realtime) -> None:
        with realtime.socket() as socket:
            socket.join("room")
            socket.push("realtime:room", "access_token", {"access_token": "nonsense"})
            assert socket.next("system").payload["message"] == "The token provided is not a valid JWT"
            socket.next("phx_close")


def test_the_status_needs_realtime(local_stack: Stack) -> None:
    assert local_stack.realtime.running()
    assert httpx.get(f"{local_stack.state.api_url}/realtime/v1/api/ping").json() == {"message": "Success"}
