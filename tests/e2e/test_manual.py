"""The manual's snippets are run as they stand, against the stack and what else they tell to start."""

import signal
import uuid
from pathlib import Path

import pytest

from cli.demo import SAMPLES
from local.stack import Stack, StackStatus
from tests.e2e.manual import SECTION, selling, snippets
from tests.e2e.worker_process import WorkerProcess
from tests.node import run_node

# What the page around the snippet would provide.
PAGE = """
import {{ readFileSync }} from "node:fs";
const SUPABASE_URL = "{url}", SUPABASE_PUBLISHABLE_KEY = "{key}";
const email = "{email}", password = "correct horse battery";
const file = new File([readFileSync("{picture}")], "art.png", {{ type: "image/png" }});
const alert = (message) => {{ throw new Error(message); }};
const show = async (url) => console.log((await fetch(url)).headers.get("content-type"));
"""


@pytest.mark.usefixtures("db")
def test_the_snippet_for_browsers_shows_a_result(local_stack: Stack, stack: StackStatus, tmp_path: Path) -> None:
    snippet, *_ = snippets("# From the browser", "js")
    page = PAGE.format(
        url=stack.api_url,
        key=stack.publishable_key,
        email=f"{uuid.uuid4().hex}@example.com",
        picture=SAMPLES / "flat-art.png",
    )
    script = local_stack.directory / "snippet.mjs"  # below the checkout, so that the package is found
    script.write_text(page + snippet)
    worker = WorkerProcess(stack, tmp_path / "worker.log", real=True)
    try:
        done = run_node(script)
    finally:
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert (done.returncode, done.stdout.strip()) == (0, "image/png"), done.stderr


def test_the_snippets_for_billing_buy_subscribe_renew_and_refund(local_stack: Stack, tmp_path: Path) -> None:
    with selling(local_stack, tmp_path) as shop:
        told = shop.run(snippets(SECTION, "sh")[2])
    lines = [line.split() for line in told.splitlines()]
    assert lines[:2] == [["active"], ["succeeded"]], "renewed, refunded"
    assert ["credits_remaining", "47"] in lines
    changes = {tuple(line[1:3]) for line in lines if line and line[0].isdigit()}
    assert changes == {("bonus", "+2"), ("purchase", "+10"), ("purchase", "+20"), ("clawback", "-5")}
