"""`dtf` itself: that it starts in a moment, and what it says of a call that cannot be meant."""

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cli.arguments import moment
from cli.main import app

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
