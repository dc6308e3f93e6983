"""The worker's settings, and what it says and answers when one is wrong."""

import jwt
import pytest
from pydantic import SecretStr

from services.images.__main__ import main
from services.images.settings import WorkerSettings, available_cores
from services.settings import SettingsError, load

OLD_PUBLISHABLE_KEY = jwt.encode({"iss": "supabase", "role": "anon"}, "secret" * 6)
ENVIRONMENT = {"SUPABASE_URL": "http://127.0.0.1:54321/", "SUPABASE_SECRET_KEY": "sb_secret_hidden"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_two_variables_are_enough() -> None:
    settings = load(WorkerSettings)
    assert settings.supabase_url == "http://127.0.0.1:54321"
    assert 1 <= settings.concurrency <= 4
    assert settings.concurrency * settings.engine_threads <= max(available_cores(), settings.concurrency)
    assert (settings.operation_types, settings.http_port) == ((), None)
    assert "hidden" not in repr(settings)


def test_operation_types_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_OPERATION_TYPES", "upscale, generate")
    assert load(WorkerSettings).operation_types == ("upscale", "generate")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SUPABASE_URL", None, "SUPABASE_URL is not set: set it in the environment"),
        ("SUPABASE_URL", "localhost:54321", "SUPABASE_URL cannot be used: it has to be the project's address"),
        ("SUPABASE_SECRET_KEY", " ", "SUPABASE_SECRET_KEY cannot be used: it is empty"),
        ("SUPABASE_SECRET_KEY", "sb_publishable_x", "SUPABASE_SECRET_KEY cannot be used: it is a publishable key,"),
        ("SUPABASE_SECRET_KEY", OLD_PUBLISHABLE_KEY, "SUPABASE_SECRET_KEY cannot be used: it is a publishable key,"),
        ("WORKER_LEASE_SECONDS", "1", "WORKER_LEASE_SECONDS cannot be used: it has to be at least 2"),
        ("WORKER_HTTP_PORT", "web", "WORKER_HTTP_PORT cannot be used: it has to be a whole number"),
    ],
)
def test_each_problem_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, sentence: str
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load(WorkerSettings)
    assert str(raised.value).startswith(sentence)


def test_the_command_ends_with_status_2_and_the_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SUPABASE_SECRET_KEY")
    assert main() == 2
    assert "SUPABASE_SECRET_KEY is not set" in capsys.readouterr().err


def test_settings_can_be_given_by_name() -> None:
    settings = WorkerSettings(supabase_url="https://x.supabase.co", supabase_secret_key=SecretStr("k"), concurrency=3)
    assert settings.concurrency == 3
