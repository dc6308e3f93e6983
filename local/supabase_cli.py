"""The real Supabase CLI from npm: applies migrations and seed, and tells of a `supabase start` stack."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

from local.environment import own
from local.errors import StackError
from local.gateway import node_environment

STATUS_SECONDS = 20
PUSH_SECONDS = 600
CAUSE_LINES = 12
OURS = {**node_environment(), "SUPABASE_TELEMETRY_DISABLED": "1"}


def executable(project: Path) -> Path:
    """The CLI that npm installed into the checkout."""
    path = project / "node_modules" / ".bin" / "supabase"
    if not path.exists():
        raise StackError(f"The Supabase CLI is missing from {project / 'node_modules'}. Run: make install")
    return path


def environment() -> dict[str, str]:
    """The user's environment, in which the CLI finds the wheel's Node and sends no telemetry."""
    return {**os.environ, **OURS}


def _run(project: Path, arguments: list[str], seconds: float, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(executable(project)), *arguments, "--workdir", str(project)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            env=env,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        command = " ".join(arguments[:2])
        raise StackError(
            f"`supabase {command}` did not end within {seconds:.0f} s. Run it by hand to see why."
        ) from error


def _run_on(project: Path, db_url: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command on a database; the password goes through the environment, as everybody can read a command line."""
    url = urlsplit(db_url)
    target = f"--remote=postgresql://{url.username}@{url.hostname}:{url.port}{url.path}?sslmode=disable"
    env = own(**OURS, PGPASSWORD=unquote(url.password or ""))
    return _run(project, [*arguments, target], PUSH_SECONDS, env)


def push(project: Path, db_url: str) -> None:
    """Apply what is missing of supabase/migrations and supabase/seed.sql; a failed migration is rolled back."""
    # --include-all: a branch that was merged may bring a migration older than the newest that is applied.
    done = _run_on(project, db_url, ["db", "push", "--include-all", "--include-seed", "--yes"])
    if done.returncode != 0:
        raise StackError(f"The migrations could not be applied. {_cause(done.stdout + done.stderr)}")


def typescript_types(project: Path, db_url: str) -> str:
    """The schema `public` as TypeScript types for supabase-js; not formatted."""
    done = _run_on(project, db_url, ["gen", "types", "--lang", "typescript", "--schema", "public"])
    if done.returncode != 0:
        raise StackError(f"The types could not be made. {_cause(done.stdout + done.stderr)}")
    return done.stdout


def stop(project: Path) -> None:
    """Stop the `supabase start` stack; its data stays in Docker volumes."""
    done = _run(project, ["stop"], PUSH_SECONDS, environment())
    if done.returncode != 0:
        raise StackError(f"`supabase stop` failed: {(done.stderr or done.stdout).strip()}")


def _cause(output: str) -> str:
    """What the CLI says went wrong: the file it was applying, the error and the statement."""
    text = re.sub(r"\x1b\[[0-9;]*m|\nTry rerunning the command with --debug.*", "", output)
    applying = re.findall(r"(?:Applying migration|Seeding data from) (\S+?)\.\.\.", text)
    error = re.search(r"ERROR: .*", text, re.DOTALL)
    where = f"In {applying[-1]}: " if applying else ""
    lines = (error.group(0) if error else text).strip().splitlines()
    return where + "\n".join(lines[:CAUSE_LINES])


def docker_stack(project: Path) -> dict[str, str] | None:
    """Variables of the running `supabase start` stack of this project, or None where none runs."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    version = [docker, "version", "--format", "{{.Server.Version}}"]
    try:
        if subprocess.run(version, capture_output=True, check=False, timeout=STATUS_SECONDS).returncode != 0:
            return None
    except subprocess.TimeoutExpired as error:
        raise StackError("Docker is installed but does not answer. Restart it, or stop it to do without.") from error
    done = _run(project, ["status", "--output", "json"], STATUS_SECONDS, environment())
    if done.returncode != 0:
        return None
    start = done.stdout.find("{")
    variables: dict[str, str] = json.loads(done.stdout[start:]) if start >= 0 else {}
    return variables or None
