"""The stack as supabase-js sees it; the script beside this file holds the expectations."""

from pathlib import Path

from local.stack import StackStatus
from tests.node import run_node

SCRIPT = Path(__file__).with_name("supabase_js.mjs")


def test_supabase_js_works_as_with_a_hosted_project(stack: StackStatus) -> None:
    project = {"SUPABASE_URL": stack.api_url, "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key}
    done = run_node(SCRIPT, **project)
    assert done.returncode == 0, done.stderr
