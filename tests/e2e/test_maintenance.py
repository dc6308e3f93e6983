"""The maintenance service on a running stack: what it removes is gone, and it may be killed and doubled."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from storage3.exceptions import StorageApiError
from supabase import Client
from typer.testing import CliRunner

from cli.main import app
from local.stack import PROJECT, Stack, StackStatus
from tests.e2e.operations import Database, status
from tests.e2e.people import Person, operator, sign_up
from tests.e2e.worker_process import until

ONCE = ["-m", "cli.main", "maintain", "--once", "--json"]
# Killed when Storage has removed the objects, and the database knows nothing of it yet.
DIE_AFTER_REMOVAL = """
import asyncio, os, signal
from services.maintenance import __main__ as service, tasks
from services.maintenance.settings import MaintenanceSettings
from services.settings import load
remove = tasks.Project.remove
async def remove_and_die(project, keys):
    await remove(project, keys)
    os.kill(os.getpid(), signal.SIGKILL)
tasks.Project.remove = remove_and_die
asyncio.run(service.run_once(load(MaintenanceSettings)))
"""


@pytest.fixture(scope="module")
def api(stack: StackStatus) -> Client:
    return operator(stack)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def person(stack: StackStatus) -> Person:
    return sign_up(stack)


def environment(stack: StackStatus) -> dict[str, str]:
    return {"SUPABASE_URL": stack.api_url, "SUPABASE_SECRET_KEY": stack.secret_key}


def start(stack: StackStatus, *arguments: str, log: Path, http_port: int = 0) -> subprocess.Popen[str]:
    """A process of its own, which logs into a file."""
    with log.open("a") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env=os.environ | environment(stack) | {"MAINTENANCE_HTTP_PORT": str(http_port)},
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )


def maintain(stack: StackStatus, log: Path, *, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    """Run everything once; returns what each task did."""
    process = start(stack, *ONCE, log=log)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == exit_code, output + log.read_text()
    return {run["task"]: run for run in json.loads(output)}


def expired_image(person: Person, db: Database) -> tuple[str, str]:
    """An upload whose time is over: its id and its key."""
    image = person.upload("old.png", b"bytes of " + uuid.uuid4().bytes)
    row = db.execute(
        "update public.images set expires_at = now() - interval '1 second' where id = %s returning original_url",
        (image,),
    ).fetchone()
    assert row is not None
    return image, row["original_url"]


def is_stored(api: Client, key: str) -> bool:
    bucket, _, name = key.partition("/")
    try:
        return bool(api.storage.from_(bucket).download(name))
    except StorageApiError:
        return False


def images(db: Database, *ids: str) -> int:
    row = db.execute("select count(*)::int as rows from public.images where id = any(%s)", (list(ids),)).fetchone()
    assert row is not None
    return int(row["rows"])


def test_everything_is_done_in_one_go(stack: StackStatus, api: Client, person: Person, db: Database, log: Path) -> None:
    image, key = expired_image(person, db)
    kept = person.upload("new.png", b"new")
    forgotten = f"{person.id}/forgotten.png"
    person.api.storage.from_("originals").upload(forgotten, b"forgotten", {"content-type": "image/png"})
    db.execute("update storage.objects set created_at = now() - interval '2 days' where name = %s", (forgotten,))
    db.execute(
        "insert into public.user_activity_logs (user_id, activity_type, created_at)"
        " values (%s, 'download', now() - interval '401 days')",
        (person.id,),
    )
    grant = {"p_user_id": person.id, "p_amount": 5, "p_transaction_type": "bonus"}
    soon = db.execute("select clock_timestamp() + interval '0.3 second' as soon").fetchone()
    assert soon is not None
    api.rpc("grant_credits", grant | {"p_expires_at": soon["soon"].isoformat()}).execute()
    until(lambda: db.execute("select 1 where clock_timestamp() > %s", (soon["soon"],)).fetchone())

    runs = maintain(stack, log)

    assert {run["outcome"] for run in runs.values()} == {"done"}
    assert runs["delete_expired_images"]["count"] >= 1
    assert (images(db, image), images(db, kept)) == (0, 1)
    assert not is_stored(api, key)
    assert not is_stored(api, f"originals/{forgotten}")
    assert person.credits() == 2
    old = "select from public.user_activity_logs where user_id = %s and activity_type = 'download'"
    assert db.execute(old, (person.id,)).fetchone() is None
    assert db.execute("select 1 from public.system_metrics where recorded_at > now() - interval '2 minutes'").fetchone()


def claim(api: Client, person: Person, seconds: int) -> dict[str, Any]:
    """An operation of this person, claimed as a worker does."""
    person.request(person.upload("art.png", b"art"), "upscale")
    arguments = {"p_worker_id": "test", "p_lease_seconds": seconds}
    rows: Any = api.rpc("claim_image_operations", arguments).execute().data
    assert [row["user_id"] for row in rows] == [person.id]
    return dict(rows[0])


def test_lost_work_waits_again_although_no_worker_asks(
    stack: StackStatus, api: Client, person: Person, db: Database, log: Path
) -> None:
    job = claim(api, person, 1)
    lost = "select 1 from public.image_operations where id = %s and lease_expires_at < now()"
    until(lambda: db.execute(lost, (job["id"],)).fetchone())
    assert maintain(stack, log)["requeue_lost_operations"]["count"] == 1
    assert status(person, job["id"]) == "pending"
    person.api.rpc("cancel_image_operation", {"p_operation_id": job["id"]}).execute()


def test_killed_between_bytes_and_rows_it_finishes_the_next_time(
    stack: StackStatus, api: Client, person: Person, db: Database, log: Path
) -> None:
    job = claim(api, person, 60)
    folder = f"{person.id}/{job['id']}"
    for name in ("result.png", "thumb.webp"):
        api.storage.from_("results").upload(f"{folder}/{name}", b"result", {"content-type": "image/png"})
    output = {"url": f"results/{folder}/result.png", "thumbnail_url": f"results/{folder}/thumb.webp"}
    lease = {"p_operation_id": job["id"], "p_lease_token": job["lease_token"]}
    completion = {"p_api_provider": "waifu2x", "p_output": output, "p_processing_time": 1}
    api.rpc("complete_image_operation", lease | completion).execute()
    image = person.operation(job["id"])["image_id"]
    db.execute("update public.images set expires_at = now() where id = %s", (image,))
    keys = [*output.values(), job["input_url"]]
    assert all(is_stored(api, key) for key in keys)

    killed = start(stack, "-c", DIE_AFTER_REMOVAL, log=log)
    assert killed.wait(30) == -signal.SIGKILL
    assert not any(is_stored(api, key) for key in keys)
    assert images(db, image) == 1
    assert maintain(stack, log)["delete_expired_images"]["count"] == 1
    assert images(db, image) == 0


def test_two_at_once_do_the_work_together(
    stack: StackStatus, api: Client, person: Person, db: Database, log: Path
) -> None:
    expired = [expired_image(person, db) for _ in range(10)]
    both = [start(stack, *ONCE, log=log) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output + log.read_text()
    maintain(stack, log)  # what one had locked when the other looked
    assert images(db, *[image for image, _ in expired]) == 0
    assert not any(is_stored(api, key) for _, key in expired)


def test_a_violated_ledger_is_told_and_status_1(
    stack: StackStatus, local_stack: Stack, person: Person, log: Path
) -> None:
    def add_credits(amount: int) -> None:
        with psycopg.connect(local_stack.state.admin_url) as admin:
            admin.execute("set local session_replication_role = replica")  # no trigger watches
            admin.execute(
                "update public.profiles set credits_remaining = credits_remaining + %s where id = %s",
                (amount, person.id),
            )

    add_credits(1)
    try:
        outcomes = {task: run["outcome"] for task, run in maintain(stack, log, exit_code=1).items()}
    finally:
        add_credits(-1)
    assert outcomes.pop("verify_ledger") == "violated"
    assert set(outcomes.values()) == {"done"}
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    found = [line for line in logged if line["event"] == "ledger_violated" and line["level"] == "error"]
    assert person.id in {line["user_id"] for line in found}
    assert maintain(stack, log)["verify_ledger"]["outcome"] == "done"


def test_it_runs_until_it_is_told_to_stop(stack: StackStatus, person: Person, db: Database, log: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    image, _ = expired_image(person, db)
    process = start(stack, "-m", "services.maintenance", log=log, http_port=port)
    try:
        until(lambda: "maintenance_started" in log.read_text())
        until(lambda: images(db, image) == 0)
        metrics = f"http://127.0.0.1:{port}/metrics"
        verified = 'dtf_maintenance_runs_total{outcome="done",task="verify_ledger"} 1.0'
        until(lambda: verified in httpx.get(metrics).text)
        assert "dtf_maintenance_ledger_violations 0.0" in httpx.get(metrics).text
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok", "overdue": []}
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert "Traceback" not in log.read_text()


def test_settings_that_cannot_be_used_are_status_2(stack: StackStatus) -> None:
    result = CliRunner().invoke(app, ["maintain", "--once"], env=environment(stack) | {"MAINTENANCE_KEEP_DAYS": "3"})
    assert result.exit_code == 2
    assert "MAINTENANCE_KEEP_DAYS cannot be used" in result.stderr
