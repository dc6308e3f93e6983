"""`make install` on machines that lack something, and in a checkout that was moved."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import PROJECT

NEEDED = ("Makefile", "requirements.lock", "pyproject.toml", "package-lock.json")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as says what is to be installed, in a path with a space."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in NEEDED:
        shutil.copy(PROJECT / name, folder)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["/usr/bin/env", "make", "install", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def python(folder: Path, reply: str) -> str:
    """A Python that says of itself what `reply`, a line of shell, makes of the question in $2."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\n{reply}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return f"PYTHON={program}"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("case $2 in *ensurepip*) exit 1;; esac", "On Debian and Ubuntu: apt install python3-venv"),
        ('case $2 in *version_info*) exec PYTHON -c "import sys; sys.version_info = (3, 14); $2";; esac', "is needed"),
        ('case $2 in *version_info*) exec PYTHON -c "import sys; sys.version_info = (3, 10); $2";; esac', "is needed"),
    ],
)
def test_a_python_that_does_not_do_is_one_sentence(checkout: Path, tmp_path: Path, reply: str, told: str) -> None:
    done = make(checkout, python(tmp_path, reply.replace("PYTHON", sys.executable)))
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 2, "a sentence, and make's own"
    assert not (checkout / ".venv").exists()


def test_a_checkout_that_was_moved_is_installed_anew(checkout: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=checkout, check=True)
    (checkout / ".venv" / "installed").touch()
    assert "pip install" not in make(checkout, "--dry-run").stdout
    moved = checkout.rename(checkout.with_name("elsewhere"))
    assert "pip install" in make(moved, "--dry-run").stdout


def test_make_help_tells_of_every_target() -> None:
    done = subprocess.run(["/usr/bin/env", "make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^  make (\w+) +\S", done.stdout, re.MULTILINE)) == set(targets.split()) - {"moved"}
