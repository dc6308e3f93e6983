"""`dtf demo` as a newcomer runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from local.stack import PROJECT, Stack, StackStatus


@pytest.mark.usefixtures("db")
def test_the_demonstration_leaves_good_results_a_print_file_a_mail_and_a_ledger_that_adds_up(
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
    assert "adds up to the balance of 5 credits" in done.stdout
    for name, size in (("1-upscaled-photo", (1804, 1200)), ("2-background-removed", (1000, 1000))):
        with Image.open(output / f"{name}.png") as result:
            assert result.size == size
    with Image.open(output / "4-lettering.png") as lettering:
        assert lettering.mode == "RGBA"
    with Image.open(output / "6-print-file.png") as printed:
        assert printed.width == round(8 / 2.54 * 300)
        assert printed.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        size = printed.size
    with Image.open(output / "6-print-file-white.png") as white:
        assert (white.mode, white.size) == ("LA", size)
    assert (output / "6-print-file-mockup.png").exists()
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
