"""The mailbox of the stack: takes every mail, keeps it, shows it, and lets nothing in a mail act."""

import smtplib
import uuid
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from local.mailbox.folder import Folder
from local.mailbox.reading import read_mail, summarize
from local.stack import Stack, StackStatus

SCRIPT = "<script>alert(1)</script>"


def send(stack: StackStatus, message: EmailMessage | bytes, to: str) -> None:
    host, _, port = str(stack.smtp_url).removeprefix("smtp://").partition(":")
    with smtplib.SMTP(host, int(port), timeout=10) as server:
        content = message if isinstance(message, bytes) else message.as_bytes()
        server.sendmail("hello@example.com", [to], content)


def letter(to: str, subject: str = "Grüße") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "DTF Editor <hello@example.com>", to, subject
    message.set_content("Plain words")
    message.add_alternative(f"<p>Fine words</p>{SCRIPT}", subtype="html")
    return message


@pytest.fixture
def to() -> str:
    return f"{uuid.uuid4().hex}@example.com"


def only(stack: StackStatus, to: str) -> str:
    [mail] = httpx.get(f"{stack.mail_url}/api/v1/search", params={"query": f"to:{to}"}).json()["messages"]
    return str(mail["ID"])


def test_a_mail_is_kept_as_a_file_and_shown(local_stack: Stack, stack: StackStatus, to: str) -> None:
    send(stack, letter(to), to)
    mail = only(stack, to)
    file = local_stack.directory / "mail" / f"{mail}.eml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"Plain words" in file.read_bytes()
    page = httpx.get(f"{stack.mail_url}/", params={"to": to}).text
    assert f"/mails/{mail}" in page
    assert "Grüße" in page
    assert "Plain words" in httpx.get(f"{stack.mail_url}/mails/{mail}?view=text").text
    assert "DTF Editor &lt;hello@example.com&gt;" in httpx.get(f"{stack.mail_url}/mails/{mail}?view=headers").text
    read = httpx.get(f"{stack.mail_url}/api/v1/message/{mail}").json()
    assert (read["Subject"], read["Text"].strip(), read["From"]["Address"]) == (
        "Grüße",
        "Plain words",
        "hello@example.com",
    )


def test_no_mail_runs_or_fetches_anything(stack: StackStatus, to: str) -> None:
    send(stack, letter(to, subject=SCRIPT), to)
    mail = only(stack, to)
    for path in (f"/?to={to}", f"/mails/{mail}"):
        page = httpx.get(f"{stack.mail_url}{path}")
        assert SCRIPT not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert 'sandbox="allow-popups' in httpx.get(f"{stack.mail_url}/mails/{mail}").text
    frame = httpx.get(f"{stack.mail_url}/mails/{mail}/html")
    policy = frame.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "sandbox allow-popups" in policy
    assert "allow-scripts" not in policy + httpx.get(f"{stack.mail_url}/mails/{mail}").text


def test_other_sites_neither_read_nor_delete_mails(stack: StackStatus, to: str) -> None:
    send(stack, letter(to), to)
    assert httpx.get(str(stack.mail_url), headers={"host": "evil.example"}).status_code == 400
    foreign = {"origin": "https://evil.example"}
    assert httpx.post(f"{stack.mail_url}/delete", headers=foreign).status_code == 403
    assert only(stack, to)
    assert httpx.get(f"{stack.mail_url}/mails/..%2f..%2fstate.json").status_code == 404


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n\r\nno header",
        b" continues nothing\r\nSubject: x\r\n\r\ny",
        b"Subject: =?broken?q?x?=\r\nContent-Type: text/html; charset=nonsense\r\n\r\n\xff\xfe<p>",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%",
    ],
    ids=["empty", "no-header", "continuation", "charset", "base64"],
)
def test_any_bytes_are_a_mail(stack: StackStatus, to: str, content: bytes) -> None:
    send(stack, content, to)
    mail = only(stack, to)
    for view in ("html", "text", "headers"):
        assert httpx.get(f"{stack.mail_url}/mails/{mail}?view={view}").status_code == 200


def test_deeply_nested_parts_are_survived() -> None:
    depth = 3000
    bomb = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
    assert read_mail(bomb).html is None
    assert summarize("20260101T000000000000-00000000", bomb[:1000]).subject == ""


def test_only_the_newest_mails_are_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "mail", limit=3)
    kept = [folder.keep(f"Subject: {number}\r\n\r\n".encode()) for number in range(5)]
    assert sorted(folder.ids()) == sorted(kept)[2:]
    assert folder.read("../../etc/passwd") is None
    folder.clear()
    assert folder.ids() == []


def test_the_mailbox_comes_back_with_its_mails(local_stack: Stack, stack: StackStatus, to: str) -> None:
    send(stack, letter(to), to)
    local_stack.mailbox.stop()
    assert local_stack.status() is None
    local_stack.up()
    assert only(stack, to)


def test_a_mail_that_is_too_large_is_refused(stack: StackStatus, to: str) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused) as raised:
        send(stack, b"Subject: large\r\n\r\n" + b"x" * 70 * 1024 * 160, to)
    assert raised.value.smtp_code == 552
    assert httpx.get(f"{stack.mail_url}/api/v1/search", params={"query": f"to:{to}"}).json()["total"] == 0
