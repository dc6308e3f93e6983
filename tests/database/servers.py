"""The servers that the database tests run on: each starts empty and gets what a hosted project has, and the migrations.

17, the major version of hosted projects, is the stack that all tests share. 15 and 18 are stacks of their own, with
binaries from npm. `container` is a server in a Docker container: Supabase's own image, or the one that $DTF_TEST_IMAGE
names, with `supabase_admin` as the superuser that it makes from $POSTGRES_USER and $POSTGRES_PASSWORD.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import docker
import psycopg
import pytest
from docker.errors import APIError, DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from local import supabase_cli
from local.gateway import Gateway
from local.stack import PROJECT, prepare_database
from local.state import StackState
from tests.stacks import new_stack

PACKAGED = ("15", "18")
# What `supabase start` runs.
DEFAULT_IMAGE = "supabase/postgres:17.11.0.018"
PORT = 5432
START_SECONDS = 120.0


@contextmanager
def packaged(major: str) -> Iterator[StackState]:
    """A stack on the Postgres of an npm package."""
    stack = new_stack(_directory(major), _binaries(major))
    try:
        yield stack.state
    finally:
        stack.down()


def _directory(name: str) -> Path:
    return PROJECT / ".dtf" / f"test-{name}"


def _binaries(major: str) -> Path:
    """The folder with `initdb` and `postgres`.

    npm packages cannot hold symbolic links; these would make theirs in an install script, which do not run here.
    """
    machine = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
    package = PROJECT / "tests" / "node_modules" / f"postgres-{major}-linux-{machine}"
    if not package.exists():
        raise FileNotFoundError(f"Postgres {major} is missing from tests/node_modules. Run: make install-tests")
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, target = package / link["source"], package / link["target"]
        if not target.is_symlink():
            target.symlink_to(os.path.relpath(source, target.parent))
    return package / "native" / "bin"


def container_image() -> str:
    """The image that the container is made from."""
    return os.environ.get("DTF_TEST_IMAGE") or DEFAULT_IMAGE


@cache
def container_trouble() -> str | None:
    """Why no container can be started here, or None; pulls the image where it is missing.

    Called while tests are collected: a pull may take longer than a test.
    """
    image = container_image()
    try:
        client = docker.from_env()
        try:
            client.images.get(image)
        except ImageNotFound:
            client.images.pull(image)
    except APIError as error:
        trouble = f"The image {image} cannot be pulled; name another in DTF_TEST_IMAGE. {error}"
        if image != DEFAULT_IMAGE:
            pytest.exit(trouble, 1)
        return trouble
    except DockerException as error:
        return f"No Docker engine answers, so no test ran in a container: {error}"
    return None


@contextmanager
def container() -> Iterator[StackState]:
    """A server in a container, which is removed at the end."""
    state = StackState()
    testcontainers_config.ryuk_disabled = True  # a second image to pull, for what the `with` below does
    variables = {
        "POSTGRES_USER": "supabase_admin",
        "POSTGRES_PASSWORD": state.admin_password,
        "POSTGRES_DB": "postgres",
    }
    with DockerContainer(container_image(), env=variables, ports=[PORT]) as running:
        state.postgres_host = running.get_container_host_ip()
        state.postgres_port = running.get_exposed_port(PORT)
        _wait_for(state, running)
        _migrate(state)
        yield state


def _wait_for(state: StackState, running: DockerContainer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(state.admin_url, connect_timeout=3).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                output = b"".join(running.get_logs()).decode(errors="replace")
                pytest.fail(f"The container did not answer within {START_SECONDS:.0f} s. It said: {output[-2000:]}")
            time.sleep(0.2)


def _migrate(state: StackState) -> None:
    directory = _directory("container")
    directory.mkdir(parents=True, exist_ok=True)
    with psycopg.connect(state.admin_url, autocommit=True) as connection:
        # Supabase's image holds the first drafts of both, which other containers' servers would bring up to date.
        # Here the gateway makes them, as on the other servers.
        connection.execute("drop schema if exists storage, auth cascade")
    prepare_database(Gateway(directory, PROJECT, state), state)
    supabase_cli.push(PROJECT, state.db_url)
