"""Supabase's own linter for security and performance, as a hosted project shows it."""

import os
import subprocess

from local.gateway import node_environment
from local.stack import PROJECT
from local.supabase_cli import executable


def test_the_advisors_have_nothing_to_warn_of(db_url: str) -> None:
    done = subprocess.run(
        [str(executable(PROJECT)), "db", "advisors", f"--remote={db_url}?sslmode=disable", "--fail-on", "warn"],
        cwd=PROJECT,
        env={**os.environ, **node_environment(), "SUPABASE_TELEMETRY_DISABLED": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
