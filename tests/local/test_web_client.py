"""The web client as the gateway serves it: its own files and nothing else, and no secret."""

import re
import socket
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from local.stack import Stack, StackStatus
from tests.e2e.people import sign_up


def get_as_written(stack: StackStatus, path: str) -> int:
    """The status of a path that no client tidied up before."""
    address = urlsplit(stack.api_url)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_the_page_may_load_nothing_from_elsewhere(stack: StackStatus) -> None:
    assert stack.web_url is not None
    page = httpx.get(stack.web_url)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"


def test_its_configuration_holds_the_address_and_the_publishable_key_and_no_more(stack: StackStatus) -> None:
    configuration = httpx.get(f"{stack.api_url}/config.json").json()
    assert configuration == {"url": stack.api_url, "publishableKey": stack.publishable_key}


def test_it_is_told_where_billing_is_and_may_talk_to_it(local_stack: Stack) -> None:
    def told() -> tuple[str | None, str]:
        page = httpx.get(f"{local_stack.state.api_url}/")
        (policy,) = re.findall("connect-src ([^;]*)", page.headers["content-security-policy"])
        return httpx.get(f"{local_stack.state.api_url}/config.json").json().get("billingUrl"), policy

    try:
        local_stack.up(billing_url="https://shop.example.com/billing")
        local_stack.up()
        assert told() == ("https://shop.example.com/billing", "'self' https://shop.example.com")
    finally:
        local_stack.up(billing_url="")
    assert told() == (None, "'self'")


@pytest.mark.parametrize("path", ["/app.js", "/styles.css", "/vendor/supabase.js", "/vendor/lit-html/lit-html.js"])
def test_a_file_is_sent_again_only_when_it_changed(stack: StackStatus, path: str) -> None:
    first = httpx.get(stack.api_url + path)
    assert first.status_code == httpx.codes.OK
    again = httpx.get(stack.api_url + path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (httpx.codes.NOT_MODIFIED, b"")
    head = httpx.head(stack.api_url + path)
    assert (head.status_code, head.content) == (httpx.codes.OK, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../package.json",
        "/%2e%2e/package.json",
        "/..%2flocal/web.mjs",
        "/vendor/lit-html/../supabase/README.md",
        "/vendor/lit-html/..%2f..%2fpackage.json",
        "/vendor/",
        "/views",
        "//etc/passwd",
        "/.env",
        "/app.js%00.html",
        "/no-such-file.js",
    ],
)
def test_no_path_leads_to_another_file(stack: StackStatus, path: str) -> None:
    assert get_as_written(stack, path) == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("storage", ["/storage", "/%73torage"])
def test_a_stored_document_that_is_opened_by_itself_runs_no_script(stack: StackStatus, storage: str) -> None:
    person = sign_up(stack)
    folder, name = person.id, f"{uuid4()}.svg"
    script = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    files = person.api.storage.from_("originals")
    files.upload(f"{folder}/{name}", script, {"content-type": "image/svg+xml"})
    url = files.create_signed_url(f"{folder}/{name}", 60)["signedURL"]
    assert url is not None
    answer = httpx.get(url.replace("/storage", storage))
    assert answer.content == script
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
