"""Whether it was SendGrid that spoke, and its events in the words of the database."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sendgrid.helpers.eventwebhook import EventWebhook

from services.email.events import (
    CLOCK_SKEW,
    OLDEST,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TYPES,
    Event,
    UnreadableError,
    load_key,
    translate,
    verify,
)
from services.http import ForgedError
from tests.database.personas import UNKNOWN
from tests.email.signer import Signer, event

SIGNER = Signer()
Headers = dict[str, str]


def check(body: bytes, headers: Headers, *signers: Signer, now: float | None = None) -> None:
    keys = tuple(load_key(signer.public_key) for signer in signers or [SIGNER])
    signature, timestamp = headers.get(SIGNATURE_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
    verify(body, signature, timestamp, keys, time.time() if now is None else now)


def one(kind: str, **more: Any) -> Event:
    (translated,) = translate(json.dumps([event(kind, **more)]).encode()).events
    return translated


# The signature.


def test_what_sendgrid_signed_is_accepted_byte_for_byte() -> None:
    body, headers = SIGNER.deliver(event("delivered", response="250 grüße"))
    assert body.endswith(b"\r\n")
    check(body, headers)


def test_the_official_package_agrees() -> None:
    body, headers = SIGNER.deliver(event("delivered", response="250 grüße"), event("open"))
    official = EventWebhook(SIGNER.public_key)
    assert official.verify_signature(body.decode(), headers[SIGNATURE_HEADER], headers[TIMESTAMP_HEADER])
    assert not official.verify_signature(
        body.decode().rstrip(), headers[SIGNATURE_HEADER], headers[TIMESTAMP_HEADER]
    ), "the end of the line is signed too"
    with pytest.raises(ForgedError):
        check(body.rstrip(), headers)


def test_while_a_key_is_exchanged_both_are_accepted() -> None:
    older, newer = Signer(), Signer()
    for signer in (older, newer):
        check(*signer.deliver(event("open")), older, newer)
    with pytest.raises(ForgedError):
        check(*SIGNER.deliver(event("open")), older, newer)


BROKEN: dict[str, Callable[[Headers], Headers]] = {
    "no headers": lambda _: {},
    "no signature": lambda headers: headers | {SIGNATURE_HEADER: ""},
    "no base64": lambda headers: headers | {SIGNATURE_HEADER: "not base64 at all!"},
    "base64 cut off": lambda headers: headers | {SIGNATURE_HEADER: headers[SIGNATURE_HEADER][:-3]},
    "no ASCII": lambda headers: headers | {SIGNATURE_HEADER: "ä" * 96},
    "no DER": lambda headers: headers | {SIGNATURE_HEADER: base64.b64encode(b"x" * 71).decode()},
    "nothing in DER": lambda headers: headers | {SIGNATURE_HEADER: base64.b64encode(b"0\0").decode()},
    "zeros": lambda headers: headers | {SIGNATURE_HEADER: base64.b64encode(bytes.fromhex("3006020100020100")).decode()},
    "no timestamp": lambda headers: {SIGNATURE_HEADER: headers[SIGNATURE_HEADER]},
    "another timestamp": lambda headers: headers | {TIMESTAMP_HEADER: str(int(headers[TIMESTAMP_HEADER]) + 1)},
    "a timestamp in words": lambda headers: headers | {TIMESTAMP_HEADER: "now"},
    "a timestamp in other digits": lambda headers: headers | {TIMESTAMP_HEADER: "١٢٣"},
    "a negative timestamp": lambda headers: headers | {TIMESTAMP_HEADER: "-5"},
    "a huge timestamp": lambda headers: headers | {TIMESTAMP_HEADER: "9" * 5000},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_signature_is_one_kind_of_error(how: str) -> None:
    body, headers = SIGNER.deliver(event("open"))
    with pytest.raises(ForgedError, match="not valid"):
        check(body, BROKEN[how](headers))


def test_a_changed_body_is_refused() -> None:
    body, headers = SIGNER.deliver(event("delivered"))
    with pytest.raises(ForgedError):
        check(body.replace(b"delivered", b"unsubscribe"), headers)


def test_digits_cannot_move_between_the_timestamp_and_the_body() -> None:
    """The signature covers both without a mark between them; a body is no JSON list when it begins with a digit."""
    body, headers = SIGNER.deliver(event("delivered"))
    moved = headers | {TIMESTAMP_HEADER: headers[TIMESTAMP_HEADER][:-1]}
    with pytest.raises(ForgedError, match="too old"):
        check(headers[TIMESTAMP_HEADER][-1].encode() + body, moved)
    with pytest.raises(UnreadableError):
        translate(headers[TIMESTAMP_HEADER][-1].encode() + body)


@pytest.mark.parametrize(("age", "accepted"), [(0, True), (OLDEST - 60, True), (OLDEST + 60, False)])
def test_a_delivery_is_good_for_as_long_as_sendgrid_repeats_it(age: float, accepted: bool) -> None:
    delivery = SIGNER.deliver(event("open"), at=time.time() - age)
    if accepted:
        check(*delivery)
    else:
        with pytest.raises(ForgedError, match="too old"):
            check(*delivery)


def test_a_delivery_of_tomorrow_is_refused() -> None:
    check(*SIGNER.deliver(event("open"), at=time.time() + CLOCK_SKEW / 2))
    with pytest.raises(ForgedError):
        check(*SIGNER.deliver(event("open"), at=time.time() + 2 * CLOCK_SKEW))


def rsa_key() -> str:
    key = rsa.generate_private_key(65537, 2048).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.mark.parametrize("text", ["", "secret", "AAAA", SIGNER.public_key[:-8], rsa_key()])
def test_what_is_no_key_of_sendgrid_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="verification key"):
        load_key(text)


# The events.


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_kind_of_event_is_understood(kind: str) -> None:
    email_id = str(uuid.uuid4())
    given = event(kind, email_id=email_id, timestamp=1513299569)
    (translated,) = translate(json.dumps([given]).encode()).events
    assert translated == {
        "sg_event_id": given["sg_event_id"],
        "email_id": email_id,
        "event_type": kind,
        "occurred_at": "2017-12-15T00:59:29+00:00",
        "reason": None,
        "email": "ada@example.com",
    }


def test_a_blocked_mail_says_nothing_of_its_address() -> None:
    bounced = one("bounce", type="bounce", reason="550 5.1.1 There is no such user")
    blocked = one("bounce", type="blocked", reason="421 Try again later")
    assert (bounced["event_type"], bounced["reason"]) == ("bounce", "550 5.1.1 There is no such user")
    assert (blocked["event_type"], blocked["reason"]) == ("blocked", "421 Try again later")


def test_pictures_that_a_mail_program_fetched_by_itself_are_no_reading() -> None:
    assert translate(json.dumps([event("open", sg_machine_open=True)]).encode()).events == []
    assert one("open", sg_machine_open=False)["event_type"] == "open"


@pytest.mark.parametrize("email_id", [None, "", "7", 7, ["x"], str(UNKNOWN)[:-1]])
def test_other_mails_of_the_account_carry_no_id_of_ours(email_id: Any) -> None:
    assert one("delivered", email_id=email_id)["email_id"] is None


def test_what_postgres_cannot_keep_is_taken_out_of_texts() -> None:
    translated = one("bounce", reason="a\0b\ud800c" + "x" * 1000, email="\0ada@example.com")
    assert translated["reason"] is not None
    assert translated["reason"][:4] == "ab?c"
    assert len(translated["reason"]) == 500
    assert translated["email"] == "ada@example.com"


def test_no_event_happened_later_than_now() -> None:
    occurred_at = one("open", timestamp=10**30)["occurred_at"]
    assert occurred_at is not None
    assert occurred_at[:4] == time.strftime("%Y", time.gmtime())


STRANGE = {
    "no object": "delivered",
    "a list": [event("open")],
    "no id": event("open", sg_event_id=None),
    "an empty id": event("open", sg_event_id="\0"),
    "an id too long": event("open", sg_event_id="x" * 101),
    "an unknown event": event("account_status_change"),
    "no event": event("open", event=None),
    "an event that is a list": event("open", event=["open"]),
    "no time": event("open", timestamp=None),
    "a time in words": event("open", timestamp="yesterday"),
    "a time that is true": event("open", timestamp=True),
    "a time before all": event("open", timestamp=-1),
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_strange_entry_does_not_bar_the_others(what: str) -> None:
    good = [event("delivered"), event("click")]
    batch = translate(json.dumps([good[0], STRANGE[what], good[1]]).encode())
    assert [translated["sg_event_id"] for translated in batch.events] == [item["sg_event_id"] for item in good]
    assert batch.ignored == 1


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"1", b'"x"', b"[", b"\xff", b"[1", b"[" * 100_000, b"[" + b"9" * 5000 + b"]"]
)
def test_what_is_no_list_of_events_is_one_kind_of_error(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        translate(body)


def test_no_events_are_a_list_too() -> None:
    assert translate(b"[]").events == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(sorted(TYPES)) | values, "sg_event_id": st.text(max_size=110) | values},
            optional=dict.fromkeys(("timestamp", "email", "reason", "response", "email_id", "type"), values),
        )
        | values
    )
)
def test_any_json_is_translated_into_what_the_database_takes(entries: list[Any]) -> None:
    batch = translate(json.dumps(entries).encode())
    assert len(batch.events) + batch.ignored == len(entries)
    for translated in batch.events:
        assert "\0" not in json.dumps(translated, ensure_ascii=False).encode().decode()
