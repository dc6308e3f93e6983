"""`make install` on machines that lack something, and in a checkout that was moved."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import PROJECT

NEEDED = ("Makefile", "requirements-local.lock", "requirements-uv.lock", "pyproject.toml", "package-lock.json")


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


@pytest.fixture
def installed(checkout: Path) -> Path:
    """A checkout with an environment whose programs only say how they were called; pip brings a uv of that kind."""
    binaries = checkout / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (checkout / ".venv" / "pyvenv.cfg").write_text(f"command = python -m venv {checkout.resolve()}/.venv\n")
    say = f'#!/bin/sh\necho "${{0##*/}} $*" "$UV_DEFAULT_INDEX" >> "{checkout}/calls"\n'
    uv = f"{say}exit $UV_STATUS\n"
    # fmt: off
    pip = (
        f"{say}"
        'case "$*" in\n'
        """"config list") echo "global.index-url='https://mirror.example/simple'";;\n"""
        f"*--target*) mkdir -p .venv/uv/bin; printf '%s' '{uv}' > .venv/uv/bin/uv; chmod +x .venv/uv/bin/uv;"
        " exit $PIP_STATUS;;\nesac\n"
    )
    # fmt: on
    for name, text in {"pip": pip, "python": say}.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    return checkout


@pytest.mark.parametrize(("without", "pip_is_asked"), [("", False), ("PIP_STATUS=1", True), ("UV_STATUS=1", True)])
def test_uv_installs_the_packages_and_pip_where_uv_does_not(installed: Path, without: str, pip_is_asked: bool) -> None:
    done = make(installed, f"PYTHON={sys.executable}", "PIP_STATUS=0", "UV_STATUS=0", *filter(None, [without]))
    assert done.returncode == 0, done.stderr
    calls = (installed / "calls").read_text().splitlines()
    synced = [call for call in calls if call.startswith("uv pip sync") and "requirements-local.lock" in call]
    assert all("--require-hashes" in call and call.endswith(" https://mirror.example/simple") for call in synced)
    assert len(synced) == (without != "PIP_STATUS=1")
    by_pip = [call for call in calls if call.startswith("pip install") and "requirements-local.lock" in call]
    assert all("--require-hashes" in call for call in by_pip)
    assert bool(by_pip) == pip_is_asked
    assert not (installed / ".venv" / "uv").exists()
    assert (installed / ".venv" / "installed").exists()


def test_make_help_tells_of_every_target() -> None:
    done = subprocess.run(["/usr/bin/env", "make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^  make ([\w-]+) +\S", done.stdout, re.MULTILINE)) == set(targets.split()) - {"moved"}
