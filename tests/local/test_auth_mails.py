"""Auth's own mails reach the mailbox of the stack, and their links and codes work."""

import re
import uuid
from html import unescape
from typing import Any

import httpx
from supabase import Client, create_client

from local.stack import StackStatus

PASSWORD, NEW_PASSWORD = "long-enough-1", "long-enough-2"


def newcomer(stack: StackStatus, address: str | None = None) -> tuple[Client, str]:
    client = create_client(stack.api_url, stack.publishable_key)
    address = address or f"{uuid.uuid4().hex}@example.com"
    client.auth.sign_up({"email": address, "password": PASSWORD})
    return client, address


def only_mail(stack: StackStatus, address: str) -> dict[str, Any]:
    [found] = httpx.get(f"{stack.mail_url}/api/v1/search", params={"query": f"to:{address}"}).json()["messages"]
    mail: dict[str, Any] = httpx.get(f"{stack.mail_url}/api/v1/message/{found['ID']}").json()
    return mail


def link_in(mail: dict[str, Any]) -> str:
    [link] = set(re.findall(r'href="([^"]*/auth/v1/verify[^"]*)"', mail["HTML"]))
    return unescape(link)


def test_a_forgotten_password_is_set_anew_by_the_link_in_the_mail(stack: StackStatus) -> None:
    client, address = newcomer(stack)
    client.auth.reset_password_for_email(address)
    answer = httpx.get(link_in(only_mail(stack, address)))
    page, _, session = answer.headers["location"].partition("#")
    # The web client, which takes the session from there.
    assert httpx.get(page).headers["content-type"].startswith("text/html")
    tokens = dict(part.split("=", 1) for part in session.split("&"))
    assert tokens["type"] == "recovery"
    client.auth.set_session(tokens["access_token"], tokens["refresh_token"])
    client.auth.update_user({"password": NEW_PASSWORD})
    assert client.auth.sign_in_with_password({"email": address, "password": NEW_PASSWORD}).user


def test_a_code_in_a_mail_signs_in_without_a_password(stack: StackStatus) -> None:
    client, address = newcomer(stack)
    client.auth.sign_out()
    client.auth.sign_in_with_otp({"email": address})
    mail = only_mail(stack, address)
    assert mail["From"]["Address"] == "auth@example.com"
    code = re.search(r"\b\d{6}\b", mail["Text"])
    assert code
    assert client.auth.verify_otp({"email": address, "token": code[0], "type": "email"}).session


def test_a_link_leads_where_the_app_is_when_it_says_so(stack: StackStatus) -> None:
    client, address = newcomer(stack)
    client.auth.reset_password_for_email(address, {"redirect_to": "http://127.0.0.1:3000/new-password"})
    answer = httpx.get(link_in(only_mail(stack, address)))
    assert answer.headers["location"].startswith("http://127.0.0.1:3000/new-password#access_token=")


def test_whoever_signs_up_again_and_again_with_a_strangers_address_has_one_mail_sent(stack: StackStatus) -> None:
    service = create_client(stack.api_url, stack.secret_key)
    address = f"{uuid.uuid4().hex}@example.com"
    mails = []
    for _ in range(10):
        client, _ = newcomer(stack, address)
        mails.append(service.table("email_logs").select("id").eq("recipient", address).execute().data)
        client.rpc("delete_account", {}).execute()
    assert [len(waiting) for waiting in mails] == [1] + [0] * 9
