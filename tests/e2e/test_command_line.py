"""`dtf` itself: that it starts in a moment."""

import subprocess
import sys

import pytest

# What takes longer to import than all that a help page needs.
SLOW = {"cv2", "httpx", "numpy", "playwright", "psycopg", "sendgrid", "services", "stripe", "supabase", "uvicorn"}


@pytest.mark.parametrize("arguments", [["--help"], ["stats", "--help"], ["email", "campaign", "--help"]])
def test_a_command_imports_only_what_it_needs(arguments: list[str]) -> None:
    code = "import sys\nfrom cli.main import app\ntry: app()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert "cli.stats" in done.stderr.split()
    assert not SLOW & set(done.stderr.split())
