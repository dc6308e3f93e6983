"""The stack as supabase-js sees it; the script beside this file holds the expectations."""

import os
import subprocess
from pathlib import Path

from cli.local.gateway import NODE, node_environment
from cli.local.stack import StackStatus

SCRIPT = Path(__file__).with_name("supabase_js.mjs")


def test_supabase_js_works_as_with_a_hosted_project(stack: StackStatus) -> None:
    project = {"SUPABASE_URL": stack.api_url, "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key}
    done = subprocess.run(
        [str(NODE), str(SCRIPT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **node_environment(), **project},
    )
    assert done.returncode == 0, done.stderr
