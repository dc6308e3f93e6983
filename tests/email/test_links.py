"""Links to unsubscribe: whose they are cannot be forged, and nothing else opens the door."""

import time
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from pydantic import SecretStr

from services.email.links import unsubscribe_url, user_of
from services.http import ForgedError

SECRET = SecretStr("0123456789abcdef" * 2)
USER = str(uuid.uuid4())


def token_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["token"][0]


def made(secret: str = SECRET.get_secret_value(), algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": USER, "aud": "unsubscribe"} | claims, secret, algorithm)


def test_a_link_leads_back_to_its_user() -> None:
    url = unsubscribe_url("https://mail.example.com/x", SECRET, USER)
    assert url.startswith("https://mail.example.com/x/unsubscribe?token=")
    assert user_of(token_of(url), SECRET) == USER


def test_a_link_is_the_same_in_every_mail_and_shorter_than_a_line() -> None:
    url = unsubscribe_url("https://mail.example.com", SECRET, USER)
    assert url == unsubscribe_url("https://mail.example.com", SECRET, USER)
    assert len(url) < 300
    assert USER not in url


FORGED = {
    "nothing": "",
    "no token": "x",
    "another secret": made("f" * 32),
    "no signature": jwt.encode({"sub": USER, "aud": "unsubscribe"}, "", "none"),
    "another algorithm": made("0123456789abcdef" * 4, "HS512"),
    "a session of the user": made(aud="authenticated"),
    "for two audiences but ours": made(aud=["authenticated", "checkout"]),
    "no audience": jwt.encode({"sub": USER}, SECRET.get_secret_value()),
    "nobody": jwt.encode({"aud": "unsubscribe"}, SECRET.get_secret_value()),
    "no id": made(sub="ada@example.com"),
    "cut off": made()[:-5],
    "with more": made() + "x",
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_link_is_refused(how: str) -> None:
    with pytest.raises(ForgedError):
        user_of(FORGED[how], SECRET)


def test_any_change_of_the_token_is_noticed() -> None:
    token = made()
    for place in range(len(token) - 1):  # the last character holds bits that mean nothing
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(ForgedError):
            user_of(changed, SECRET)


def test_a_link_works_for_ever() -> None:
    assert user_of(made(iat=int(time.time()) - 10 * 365 * 86400), SECRET) == USER
