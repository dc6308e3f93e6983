"""The ways a mail leaves, and what each answer means for it: the official SDK against a SendGrid on loopback."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from local.stack import PROJECT
from services.email import senders
from services.email.mails import compose
from services.email.outbox import ClaimedEmail, Outcome
from services.email.senders import Answer, Mail, Sender, SmtpSender, Trouble, make_sender
from services.email.settings import EmailSettings
from services.settings import SettingsError
from tests.certificates import self_signed
from tests.email import sendgrid_double
from tests.email.sendgrid_double import HALF_AN_ANSWER, SILENT, UNANSWERED, Fault, SendGridDouble

RECIPIENT = "ada@example.test"


@pytest.fixture(scope="module")
def double() -> Iterator[SendGridDouble]:
    with sendgrid_double.serve() as double:
        yield double


@pytest.fixture(autouse=True)
def _clean(double: SendGridDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    double.reset()
    monkeypatch.setattr(senders, "SILENCE_TIMEOUT", 0.5)


def settings(**values: Any) -> EmailSettings:
    return EmailSettings.model_validate(
        {
            "supabase_url": "http://127.0.0.1",
            "supabase_secret_key": "sb_secret_x",
            "sender": "DTF Editor <hello@example.test>",
            "app_url": "https://app.example.test",
            "public_url": "https://mail.example.test",
            "link_secret": "0123456789abcdef" * 2,
        }
        | values
    )


def sendgrid(double: SendGridDouble, **values: Any) -> Sender:
    return make_sender(settings(**{"sendgrid_api_key": sendgrid_double.KEY, "sendgrid_api_url": double.url} | values))


def claimed() -> ClaimedEmail:
    """A mail as the outbox hands it out."""
    return ClaimedEmail(
        id=uuid4(),
        user_id=uuid4(),
        recipient=RECIPIENT,
        type="campaign",
        category="marketing",
        subject="Grüße, {{ first_name }}",
        html_content="{% if first_name %}<p>Hello {{ first_name }}</p>{% endif %}",
        text_content=None,
        sendgrid_template_id=None,
        data={"first_name": "Zoë"},
    )


def mail(**values: Any) -> Mail:
    plain = Mail(str(uuid4()), RECIPIENT, "receipt", True, "Your receipt", "<p>Thänk you</p>", "Thänk you")
    return replace(plain, **values)


def test_a_mail_arrives_as_the_reference_of_the_api_has_it(double: SendGridDouble) -> None:
    sent = mail()
    answer = sendgrid(double, reply_to="help@example.test").pack(sent)()
    (body,) = double.accepted
    assert answer == Answer(Outcome.SENT, message_id=body.pop("message_id"))
    assert body == {
        "from": {"email": "hello@example.test", "name": "DTF Editor"},
        "reply_to": {"email": "help@example.test"},
        "personalizations": [{"to": [{"email": RECIPIENT}]}],
        "subject": "Your receipt",
        "content": [
            {"type": "text/plain", "value": "Thänk you"},
            {"type": "text/html", "value": "<p>Thänk you</p>"},
        ],
        "custom_args": {"email_id": sent.id},
        "categories": ["receipt"],
        "tracking_settings": {"subscription_tracking": {"enable": False}},
        "mail_settings": {"bypass_unsubscribe_management": {"enable": True}},
    }


def test_a_marketing_mail_has_the_button_to_unsubscribe(double: SendGridDouble) -> None:
    sendgrid(double).pack(
        mail(is_essential=False, unsubscribe_url="https://mail.example.test/unsubscribe?token=a.b.c")
    )()
    (body,) = double.accepted
    assert body["headers"] == {
        "List-Unsubscribe": "<https://mail.example.test/unsubscribe?token=a.b.c>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert "mail_settings" not in body


def test_a_dynamic_template_gets_the_data(double: SendGridDouble) -> None:
    sendgrid(double).pack(mail(template_id="d-1", data={"amount": "$7.99", "is_trial": False}))()
    (body,) = double.accepted
    assert body["template_id"] == "d-1"
    assert body["personalizations"][0]["dynamic_template_data"] == {"amount": "$7.99", "is_trial": False}
    assert not {"subject", "content"} & set(body)


@pytest.mark.parametrize(
    ("status", "outcome", "trouble", "is_counted"),
    [
        (413, Outcome.FAILED, None, True),
        (302, Outcome.RETRY, Trouble.REFUSED, False),
        (401, Outcome.RETRY, Trouble.REFUSED, False),
        (404, Outcome.RETRY, Trouble.REFUSED, False),
        (403, Outcome.RETRY, Trouble.REFUSED, False),
        (429, Outcome.RETRY, Trouble.RATE_LIMITED, False),
        (500, Outcome.RETRY, Trouble.UNAVAILABLE, True),
        (503, Outcome.RETRY, Trouble.UNAVAILABLE, False),
        # A gateway does not know whether what is behind it took the mail.
        (502, Outcome.UNKNOWN, Trouble.UNAVAILABLE, True),
        (504, Outcome.UNKNOWN, Trouble.UNAVAILABLE, True),
    ],
)
def test_an_error_is_final_passes_or_is_none_of_the_mail(
    double: SendGridDouble, status: int, outcome: Outcome, trouble: Trouble | None, is_counted: bool
) -> None:
    double.faulty(Fault(status, ("One thing.", "Another.")))
    answer = sendgrid(double).pack(mail())()
    assert (answer.outcome, answer.trouble, answer.is_counted) == (outcome, trouble, is_counted)
    assert answer.error == f"SendGrid answered {status}: One thing. Another."


def test_what_only_one_mail_has_fails_it_and_what_all_may_have_is_tried_again(double: SendGridDouble) -> None:
    double.faulty(Fault(400, ("Does not contain a valid address.",), about="personalizations.0.to.0.email"))
    assert sendgrid(double).pack(mail())() == Answer(
        Outcome.FAILED, error="SendGrid answered 400: personalizations.0.to.0.email: Does not contain a valid address."
    )
    for fault in (Fault(400, ("Unknown template.",), about="template_id"), Fault(400), Fault(422, ("No.",))):
        double.faulty(fault)
        answer = sendgrid(double).pack(mail())()
        assert (answer.outcome, answer.trouble, answer.doubt) == (Outcome.RETRY, None, Trouble.REFUSED)


@pytest.mark.parametrize("way", [{"smtp_url": "smtp://127.0.0.1:9"}, {"sendgrid_api_key": "SG.x"}], ids=["smtp", "api"])
def test_a_mail_that_gmail_would_clip_is_not_made(way: dict[str, str]) -> None:
    made = make_sender(settings(**way))
    # 34 kB of a template, with what its elements carry.
    long = compose(claimed().model_copy(update={"html_content": "<p>shirt</p>" * 2800}), settings())
    with pytest.raises(ValueError, match="Gmail clips it after 102000"):
        made.pack(long)
    fits = replace(long, html="é" * (senders.CLIPPED_BYTES * 100 // 635))
    assert 0.98 * senders.CLIPPED_BYTES < senders.html_bytes(fits.html) <= senders.CLIPPED_BYTES
    made.pack(fits)
    if way.keys() == {"sendgrid_api_key"}:
        made.pack(replace(long, template_id="d-1"))  # its text is SendGrid's


def test_the_size_of_a_mail_is_that_of_its_html_as_it_is_sent(double: SendGridDouble) -> None:
    html = compose(claimed(), settings()).html
    sender = make_sender(settings(smtp_url="smtp://127.0.0.1:9"))
    assert isinstance(sender, SmtpSender)
    part = sender._message(mail(html=html)).split(b"Content-Type: text/html")[1]
    sent = part.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--===", 1)[0]
    assert senders.html_bytes(html) == pytest.approx(len(sent), rel=0.01)


@pytest.mark.parametrize("body", [b"", b"<h1>Bad</h1>", b"[]", b'{"errors": [1]}', b'{"errors": [{"message": null}]}'])
def test_an_error_may_say_anything(body: bytes) -> None:
    assert senders._error_text(body)


def test_the_wait_that_is_asked_for_is_read() -> None:
    double_headers = [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)}, 30),
        ({"X-RateLimit-Reset": str(int(time.time()) + 20)}, 20),
        ({"Retry-After": "86400"}, senders.LONGEST_PAUSE),
        ({"X-RateLimit-Reset": "0"}, 1),
    ]
    with sendgrid_double.serve() as double:
        sender = sendgrid(double)
        for headers, seconds in double_headers:
            double.faulty(Fault(429, headers=headers))
            assert sender.pack(mail())().pause == pytest.approx(seconds, abs=2)
        for headers in ({}, {"Retry-After": "soon"}, {"X-RateLimit-Reset": "-"}):
            double.faulty(Fault(429, headers=headers))
            assert sender.pack(mail())().pause is None


@pytest.mark.parametrize("fault", [SILENT, UNANSWERED, HALF_AN_ANSWER])
def test_no_answer_after_the_mail_was_sent_leaves_it_unknown(double: SendGridDouble, fault: Fault) -> None:
    double.faulty(fault)
    answer = sendgrid(double).pack(mail())()
    assert (answer.outcome, answer.trouble) == (Outcome.UNKNOWN, Trouble.UNAVAILABLE)
    assert len(double.accepted) == 1


def test_without_a_connection_nothing_was_sent(double: SendGridDouble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for url in (closed, double.url.replace("http:", "https:"), "http://nowhere.invalid"):
        answer = sendgrid(double, sendgrid_api_url=url).pack(mail())()
        assert (answer.outcome, answer.trouble, answer.is_counted) == (Outcome.RETRY, Trouble.UNAVAILABLE, False)
        assert "cannot be reached" in str(answer.error)
    assert double.requests == []


def test_the_connection_is_encrypted_and_only_with_whom_we_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with sendgrid_double.serve(tls) as double:
        answer = sendgrid(double).pack(mail())()
        assert answer.trouble is Trouble.UNAVAILABLE
        assert "CERTIFICATE_VERIFY_FAILED" in str(answer.error)
        trusting = ssl.create_default_context(cafile=certificate)
        monkeypatch.setattr(senders._Https, "_shared_context", trusting)
        assert sendgrid(double).pack(mail())().outcome is Outcome.SENT


FIRST_MAIL = """
import resource
from tests.email.test_senders import claimed, settings
from services.email.sender import EmailSender
from services.email.senders import make_sender
from services.email.health import Metrics

all_settings = settings(**{way})
sender = EmailSender(all_settings, None, make_sender(all_settings), Metrics())
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
without = sender._try(claimed())
resource.setrlimit(resource.RLIMIT_NOFILE, before)
print(without.outcome, without.trouble, without.is_counted, sender._try(claimed()).trouble)
"""


@pytest.mark.parametrize("way", [{"smtp_url": "smtp://127.0.0.1:9"}, {"sendgrid_api_key": "SG.x"}], ids=["smtp", "api"])
def test_the_first_mail_of_a_process_without_files_left_is_tried_again(way: dict[str, str]) -> None:
    if "sendgrid_api_key" in way:
        way |= {"sendgrid_api_url": "http://127.0.0.1:9"}
    script = FIRST_MAIL.replace("{way}", repr(way))
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["retry", "exhausted", "False", "unavailable"], done.stderr


def test_something_to_send_with_must_be_set() -> None:
    with pytest.raises(SettingsError, match="SENDGRID_API_KEY nor EMAIL_SMTP_URL"):
        make_sender(settings(sendgrid_api_key=" "))
