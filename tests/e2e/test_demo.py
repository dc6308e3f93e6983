"""`dtf demo` as a newcomer runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from local.stack import PROJECT, Stack, StackStatus


@pytest.mark.usefixtures("db")
def test_the_demonstration_leaves_four_good_results_a_mail_and_a_ledger_that_adds_up(
    local_stack: Stack, stack: StackStatus, tmp_path: Path
) -> None:
    output = tmp_path / "demo-output"
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "DTF_DIRECTORY": str(local_stack.directory)},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refused on purpose, to show the refund" in done.stdout
    assert "adds up to the balance of 6 credits" in done.stdout
    for name, size in (("1-upscaled-photo", (1804, 1200)), ("2-background-removed", (1000, 1000))):
        with Image.open(output / f"{name}.png") as result:
            assert result.size == size
    with Image.open(output / "4-lettering.png") as lettering:
        assert lettering.mode == "RGBA"
    assert (output / "3-vectorized.svg").read_text().startswith("<svg")
    assert "Received by mail: Welcome to DTF Editor" in done.stdout
    for name in ("light", "dark"):
        with Image.open(output / f"5-welcome-mail-{name}.png") as mail:
            assert mail.width == 1360
    page = (output / "index.html").read_text()
    for picture in output.glob("*.*g"):
        assert picture.name in page
    assert "Refused on purpose" in page
    assert "Refund: background_removal failed" in page
