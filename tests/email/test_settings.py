"""What the e-mail service needs to be told, and what it says when it was not."""

import os
import subprocess
import sys

import pytest

from local.stack import PROJECT
from services.email.settings import EmailSettings
from services.settings import SettingsError, load

GOOD = {
    "SUPABASE_URL": "https://project.example.test",
    "SUPABASE_SECRET_KEY": "sb_secret_x",
    "EMAIL_FROM": "DTF Editor <hello@example.test>",
    "EMAIL_APP_URL": "https://app.example.test/",
    "EMAIL_PUBLIC_URL": "https://mail.example.test",
    "EMAIL_LINK_SECRET": "0123456789abcdef" * 2,
    "SENDGRID_API_KEY": "SG.x",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("EMAIL_", "SENDGRID_", "SUPABASE_")):
            monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_the_sender_is_a_name_with_an_address_or_an_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(EmailSettings)
    assert (settings.sender_name, settings.sender_address) == ("DTF Editor", "hello@example.test")
    assert settings.app_url == "https://app.example.test"
    monkeypatch.setenv("EMAIL_FROM", "hello@example.test")
    assert load(EmailSettings).sender_name == "hello@example.test"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMAIL_FROM", "nobody"),
        ("EMAIL_FROM", "a@b\nBcc: c@d"),
        ("EMAIL_FROM", "Käthe <käthe@example.test>"),
        ("EMAIL_REPLY_TO", "@"),
        ("EMAIL_APP_URL", "app.example.test"),
        ("EMAIL_PUBLIC_URL", "https://mail.example.test/?a=b"),
        ("EMAIL_LINK_SECRET", "short"),
        ("EMAIL_SMTP_URL", "127.0.0.1:25"),
        ("EMAIL_CONCURRENCY", "0"),
        ("SENDGRID_WEBHOOK_PUBLIC_KEY", "no key"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} cannot be used: ") as caught:
        load(EmailSettings)
    assert value not in str(caught.value) or len(value) == 1


@pytest.mark.parametrize("name", ["EMAIL_FROM", "EMAIL_APP_URL", "EMAIL_PUBLIC_URL", "EMAIL_LINK_SECRET"])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        load(EmailSettings)


@pytest.mark.parametrize("name", ["EMAIL_FROM", "SENDGRID_API_KEY"])
def test_without_what_it_needs_the_command_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    monkeypatch.setenv("EMAIL_HTTP_PORT", "0")
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", "email", "serve"], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr
