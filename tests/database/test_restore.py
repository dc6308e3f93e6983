"""A dump brings back an equal, working project: beside the old one as a whole, and in a new one as the manual tells."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from local import supabase_cli
from local.packages import POSTGRES
from local.stack import PROJECT, Stack
from tests.database.catalog import EXPECTED, describe
from tests.database.personas import Connection, People, Person, connect
from tests.e2e.manual import snippets

SECTION = "### Into a new project"
SCHEMAS = ("public", "private", "auth", "storage")
LEFT_OUT = ("storage.objects", "private.upload_totals")  # Storage makes their rows with the bytes
EXCLUDE = f"--data-only --use-copy --exclude {','.join(LEFT_OUT)}"


@pytest.fixture
def new_project(local_stack: Stack) -> Iterator[Stack]:
    """A stack that has the migrations and the seed, and nobody's data."""
    stack = Stack(local_stack.directory.with_name("test-restored"))
    stack.down()
    shutil.rmtree(stack.directory, ignore_errors=True)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()
        shutil.rmtree(stack.directory, ignore_errors=True)


def run(*command: str, **variables: str) -> str:
    """Run a program of Postgres, and return what it prints."""
    environment = os.environ | {"PATH": f"{POSTGRES}:{os.environ['PATH']}"} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def live(people: People) -> Person:
    """Somebody with a bit of everything: bought and clawed back credits, operations that wait, run and have ended."""
    user = people.new(credits=20)
    image = people.image(user)
    bought = people.service.call(
        "grant_credits",
        p_user_id=user.id,
        p_amount=5,
        p_transaction_type="purchase",
        p_money_amount=4,
        p_currency="USD",
    )
    people.service.call("clawback_credits", p_grant_id=bought["id"], p_amount=2, p_reason="Refund of the payment")
    for _ in range(3):
        user.call("request_image_operation", p_image_id=image, p_operation_type="upscale")
    work(people.service)
    people.service.call("claim_image_operations", p_worker_id="worker-2")
    collection = user.sql("insert into public.image_collections (name) values ('Shirts') returning id")[0]["id"]
    user.sql("insert into public.image_collection_items (collection_id, image_id) values (%s, %s)", collection, image)
    return user


def work(service: Person) -> UUID:
    """Claim an operation and complete it."""
    job = service.call("claim_image_operations", p_worker_id="worker-1")
    folder = f"results/{job['user_id']}/{job['id']}"
    service.call(
        "complete_image_operation",
        p_operation_id=job["id"],
        p_lease_token=job["lease_token"],
        p_api_provider="waifu2x",
        p_output={"url": f"{folder}/a.png", "thumbnail_url": f"{folder}/a.webp"},
        p_processing_time=1,
    )
    operation: UUID = job["id"]
    return operation


def contents(connection: Connection) -> dict[str, tuple[int, str]]:
    """How many rows each table has, and a hash of them."""
    tables = connection.execute(
        "select format('%%I.%%I', schemaname, tablename) as name from pg_tables where schemaname = any (%s)",
        (list(SCHEMAS),),
    ).fetchall()
    found = {}
    for table in tables:
        (row,) = connection.execute(
            f"select count(*), md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {table['name']} as t"
        ).fetchall()
        found[table["name"]] = (row["count"], row["md5"])
    return found


def try_out(connection: Connection, old: Person) -> None:
    """Its books are sound, old accounts go on where they were, and new ones can sign up."""
    people = People(connection)
    assert people.service.rows("verify_ledger") == people.service.rows("missing_triggers") == []
    image = people.image(old.on(connection))
    asked = old.on(connection).call("request_image_operation", p_image_id=image, p_operation_type="upscale")
    assert asked["status"] == "pending"
    work(people.service)
    new = people.new()
    assert people.balance(new) == 2
    assert new.sql("select id from public.profiles") == [{"id": new.id}]
    people.remove()
    assert people.service.rows("verify_ledger") == []


@pytest.mark.usefixtures("empty_queue")
def test_a_whole_dump_brings_back_everything(
    people: People, db: Connection, local_stack: Stack, tmp_path: Path
) -> None:
    user, name, admin_url = live(people), f"restored_{uuid4().hex}", local_stack.state.admin_url
    copy = admin_url.rpartition("/")[0] + f"/{name}"
    run("pg_dump", "--format=custom", f"--file={tmp_path}/dump", admin_url)
    with connect(admin_url) as admin:
        admin.execute(f"create database {name}")
        try:
            run("pg_restore", "--exit-on-error", f"--dbname={copy}", f"{tmp_path}/dump")
            with connect(copy) as restored:
                assert describe(restored) == EXPECTED.read_text()
                assert contents(restored) == contents(db)
                try_out(restored, user)
        finally:
            admin.execute(f"drop database {name}")


@pytest.mark.usefixtures("empty_queue")
def test_the_data_of_one_project_come_into_another_as_the_manual_tells(
    people: People, db: Connection, local_stack: Stack, new_project: Stack, tmp_path: Path
) -> None:
    user = live(people)
    steps, empty = snippets(SECTION, "sh")[0], snippets(SECTION, "sql")[0]
    assert f"{EXCLUDE} --file data.sql" in steps
    assert "--single-transaction --set ON_ERROR_STOP=1 --file empty.sql --file data.sql" in steps
    # The CLI runs pg_dump in a container; without Docker it tells how.
    script = run(
        str(supabase_cli.executable(PROJECT)),
        *f"db dump --dry-run {EXCLUDE}".split(),
        f"--remote={local_stack.state.db_url}?sslmode=disable",
        **supabase_cli.environment(),
    )
    (tmp_path / "data.sql").write_text(run("bash", "-c", script))
    (tmp_path / "empty.sql").write_text(empty)
    run(
        *("psql", new_project.state.db_url, "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"),
        *(f"--file={tmp_path}/empty.sql", f"--file={tmp_path}/data.sql"),
    )
    with connect(new_project.state.db_url) as restored:
        old, new = contents(db), contents(restored)
        assert new | {name: old[name] for name in LEFT_OUT} == old
        try_out(restored, user)
