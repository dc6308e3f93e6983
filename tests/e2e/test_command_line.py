"""`dtf` itself: that it starts in a moment, and what it says of a call that cannot be meant."""

import os
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.arguments import moment
from cli.main import app
from cli.run import service_of

# What takes longer to import than all that a help page needs.
SLOW = {"cv2", "httpx", "numpy", "playwright", "psycopg", "sendgrid", "stripe", "supabase", "uvicorn"}


@pytest.mark.parametrize("arguments", [["--help"], ["stats", "--help"], ["email", "campaign", "--help"]])
def test_a_command_imports_only_what_it_needs(arguments: list[str]) -> None:
    code = "import sys\nfrom cli.main import app\ntry: app()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert "cli.stats" in done.stderr.split()
    assert not SLOW & set(done.stderr.split())


@pytest.mark.parametrize(
    ("name", "old"),
    [("images", "worker"), ("billing", "serve"), ("email", "email serve"), ("maintenance", "maintain")],
)
def test_a_service_has_an_old_name_too(name: str, old: str) -> None:
    def callback(words: str) -> object:
        command: Any = get_command(app)
        for word in words.split():
            command = command.commands[word]
        return command.callback.__wrapped__

    assert callback(f"run {name}") is callback(old)
    for words in (f"run {name}", old):
        assert service_of(["/x/.venv/bin/python", "/x/.venv/bin/dtf", *words.split()]) == name
        assert service_of(["/x/.venv/bin/python", "-m", "cli.main", *words.split(), "--once"]) == name
    assert service_of(["/x/.venv/bin/python", "-m", f"services.{name}"]) == name
    assert service_of(["/x/.venv/bin/python", "-m", f"services.{name}.child"]) is None


@pytest.mark.parametrize("arguments", [["-h"], ["email", "campaign", "-h"]])
def test_help_has_a_short_name(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "Usage" in result.stdout) == (0, True)


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"dtf {metadata.version('dtf-editor-backend')}\n"


@pytest.mark.parametrize(("variables", "moves"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_nothing_moves_where_colours_are_not_wanted(variables: dict[str, str], moves: bool) -> None:
    code = "from cli.output import errors\nwith errors.status('Working'): pass"
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env=environment | {"TTY_COMPATIBLE": "1", "TERM": "xterm"} | variables,  # as on a terminal
    )
    assert (b"\x1b[" in done.stderr) is moves


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("users delete", "Missing argument 'USER'. Id or e-mail address."),
        ("credits grant ada@example.com 5", "Missing option '--reason'. Why;"),
        ("credits grant ada@example.com many", "Invalid value for 'amount': it has to be a whole number, not 'many'."),
        ("credits grant ada@example.com -5", "No such option: -5, and no number can be below zero here."),
        ("credits refund 7", "'transaction': it has to be a UUID, not '7'. Id of the usage entry: dtf credits show."),
        ("credits grant a@b.c 5 --expires 0001-01-01T00:00+23:00", "'--expires': it has to be a time such as"),
        ("credits grant a@b.c 5 --expires soon", "'--expires': it has to be a time such as 2026-11-30 or "),
        ("email list --since 30.11.2026", "2026-11-30T18:00, not '30.11.2026'."),
        ("users list --limit -3", "Invalid value for '--limit': it has to be at least 1, not '-3'."),
        ("plans operation upscale --credits 2000000", "'--credits': it has to be at most 1000000, not '2000000'."),
        ("plans plan Pro --monthly-price inf", "'--monthly-price': it has to be at most 99999999.99, not 'inf'."),
        ("plans plan Pro --monthly-price free", "'--monthly-price': it has to be a number, not 'free'."),
        ("stats sales", "'figures': 'sales' is not one of 'revenue', 'margins', 'funnel',"),
        ("up --billing-url localhost", "'--billing-url' (env var: 'BILLING_URL'): Give an address such as http://"),
        ("users list --limt 5", "No such option: --limt (Possible options: --limit)"),
        ("stat", "No such command 'stat'. Did you mean 'stats', 'status'?"),
    ],
)
def test_what_cannot_be_meant_is_told_with_what_can(call: str, answer: str) -> None:
    result = CliRunner().invoke(app, call.split(), env={"COLUMNS": "250", "TERMINAL_WIDTH": "250"})
    assert result.exit_code == 2
    assert answer in re.sub(r"\s+", " ", result.stderr)
    assert "--help' for help." in result.stderr


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-30", "2026-11-30T00:00:00+00:00"),
        ("2026-11-30 18:00:05", "2026-11-30T18:00:05+00:00"),
        ("2026-11-30T18:00+02:00", "2026-11-30T16:00:00+00:00"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, time: str) -> None:
    assert moment(text).isoformat() == time
