"""The README's snippet for browsers is run as it stands, against the stack and a real worker."""

import re
import signal
import uuid
from pathlib import Path

from cli.demo import SAMPLES
from cli.local.stack import PROJECT, StackStatus
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


def test_the_snippet_for_browsers_shows_a_result(stack: StackStatus, tmp_path: Path) -> None:
    snippet = re.search(r"```js\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    page = PAGE.format(
        url=stack.api_url,
        key=stack.publishable_key,
        email=f"{uuid.uuid4().hex}@example.com",
        picture=SAMPLES / "flat-art.png",
    )
    script = PROJECT / ".dtf" / "test" / "snippet.mjs"  # below the checkout, so that the package is found
    script.write_text(page + snippet.group(1))
    worker = WorkerProcess(stack, tmp_path / "worker.log", real=True)
    try:
        done = run_node(script)
    finally:
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert (done.returncode, done.stdout.strip()) == (0, "image/png"), done.stderr
