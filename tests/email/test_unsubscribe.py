"""The link to unsubscribe, as people, mail programs and scanners of mails use it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from local.stack import StackStatus
from tests.database.personas import People, Person
from tests.email.http_service import APP_URL, HttpService


def wants(user: Person) -> Any:
    """Whether news, and whether notifications."""
    row = user.connection.execute(
        "select marketing_emails, notification_emails from public.profiles where id = %s", (user.id,)
    ).fetchone()
    assert row is not None
    return row["marketing_emails"], row["notification_emails"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_scanners_follow_the_link_and_change_nothing(service: HttpService, user: Person, method: str) -> None:
    answer = service.http.request(method, service.link(user.id))
    assert answer.status_code == 200
    assert wants(user) == (True, True)


def test_the_page_names_the_sender_whatever_he_is_called(stack: StackStatus) -> None:
    with HttpService(stack, sender='"Ink & <b>Film</b>" <hello@example.test>') as service:
        page = service.http.get(service.link("00000000-0000-4000-8000-000000000000")).text
    assert "<h1>No more news from Ink &amp; &lt;b&gt;Film&lt;/b&gt;?</h1>" in page


def test_the_page_asks_and_tells_nobody_who_reads_it(service: HttpService, user: Person) -> None:
    answer = service.http.get(service.link(user.id))
    assert '<form method="post">' in answer.text
    assert str(user.id) not in answer.text
    assert user.email not in answer.text
    headers = answer.headers
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-store")
    assert "default-src 'none'" in headers["content-security-policy"]


Post = Callable[[HttpService, str], httpx.Response]
WAYS: dict[str, Post] = {
    "the button": lambda service, url: service.http.post(url),
    "one click": lambda service, url: service.http.post(url, data={"List-Unsubscribe": "One-Click"}),
    "one click, multipart": lambda service, url: service.http.post(
        url, files={"List-Unsubscribe": (None, "One-Click")}
    ),
    "a large body": lambda service, url: service.http.post(url, content=b"x" * (3 << 20)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_post_ends_news_and_nothing_else_however_often(service: HttpService, user: Person, way: str) -> None:
    for _ in range(2):
        answer = WAYS[way](service, service.link(user.id))
        assert answer.status_code == 200
        assert not answer.history
        assert "set-cookie" not in answer.headers
        assert f'href="{APP_URL}/#/account"' in answer.text
        assert wants(user) == (False, True)


def test_whoever_subscribes_again_may_leave_again(service: HttpService, user: Person) -> None:
    service.http.post(service.link(user.id))
    user.sql("update public.profiles set marketing_emails = true where id = %s", user.id)
    assert wants(user) == (True, True)
    service.http.post(service.link(user.id))
    assert wants(user) == (False, True)


def test_a_deactivated_account_leaves_too(service: HttpService, people: People) -> None:
    user = people.new(is_active=False)
    assert service.http.post(service.link(user.id)).status_code == 200
    assert wants(user) == (False, True)


def test_the_link_of_an_account_that_is_gone_has_done_its_work(service: HttpService) -> None:
    answer = service.http.post(service.link("00000000-0000-4000-8000-000000000000"))
    assert answer.status_code == 200


def test_a_link_with_a_slash_too_many_leads_nowhere(service: HttpService, user: Person) -> None:
    url = service.link(user.id).replace("?", "/?")
    answer = service.http.get(url, headers={"host": "evil.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("how", ["none", "empty", "cut off", "of another service"])
def test_a_forged_link_changes_nothing(
    stack: StackStatus, service: HttpService, user: Person, method: str, how: str
) -> None:
    url = service.link(user.id)
    match how:
        case "none":
            url = "/unsubscribe"
        case "empty":
            url = "/unsubscribe?token="
        case "cut off":
            url = url[:-9]
        case "of another service":
            url = HttpService(stack, public_url=service.url, link_secret="f" * 32).link(user.id)
    answer = service.http.request(method, url)
    assert (answer.status_code, "<form" in answer.text) == (400, False)
    assert APP_URL in answer.text
    assert wants(user) == (True, True)


def test_while_the_database_is_away_nobody_is_told_that_it_is_done(stack: StackStatus, user: Person) -> None:
    with HttpService(stack, supabase_url="http://127.0.0.1:9") as service:
        answer = service.http.post(service.link(user.id))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "still subscribed" in answer.text
