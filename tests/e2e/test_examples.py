"""The programs in examples/ do what they say, as they stand."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cli.demo import SAMPLES
from local.stack import PROJECT, StackStatus
from local.state import free_port
from tests.database.personas import Connection, People
from tests.e2e.worker_process import WorkerProcess, until
from tests.node import run_node

EXAMPLES = PROJECT / "examples"
SIDE = 160


@pytest.fixture
def people(db: Connection) -> Iterator[People]:
    people = People(db)
    yield people
    people.remove()


@pytest.fixture
def art(tmp_path: Path) -> Path:
    """A picture that is enlarged quickly."""
    path = tmp_path / "art.png"
    Image.open(SAMPLES / "flat-art.png").resize((SIDE, SIDE)).save(path)
    return path


@pytest.fixture
def variables(stack: StackStatus) -> dict[str, str]:
    return {
        "SUPABASE_URL": stack.api_url,
        "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
        "SUPABASE_SECRET_KEY": stack.secret_key,
    }


def run(example: str, *arguments: str | Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def worker(
    request: pytest.FixtureRequest, stack: StackStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerProcess]:
    monkeypatch.setenv("ENGINE_CLASSES", getattr(request, "param", ""))
    worker = WorkerProcess(stack, tmp_path / "worker.log", real=True)
    yield worker
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.usefixtures("db", "worker")
def test_both_ways_to_operate_bring_a_picture_of_twice_the_size(
    variables: dict[str, str], art: Path, tmp_path: Path
) -> None:
    size = f"{2 * SIDE} x {2 * SIDE} pixels"
    done = run("operate.py", art, tmp_path / "py.png", variables=variables)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'py.png'}: {size}\n"), done.stderr
    done = run_node(EXAMPLES / "operate.mjs", str(art), str(tmp_path / "js.png"), **variables)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'js.png'}: {size}\n"), done.stderr
    assert Image.open(tmp_path / "py.png").size == Image.open(tmp_path / "js.png").size == (2 * SIDE, 2 * SIDE)


def test_credits_are_given_once_and_wrong_lines_are_named(
    people: People, variables: dict[str, str], tmp_path: Path
) -> None:
    user = people.new(credits=0)
    ((address,),) = [tuple(row.values()) for row in user.sql("select email from public.profiles")]
    file = tmp_path / "people.csv"
    lines = [f"{address},5,prize", f"{address},many,prize", "nobody@example.com,5,prize", f"{address},-5,prize"]
    file.write_text("\n".join(["email,credits,reason", *lines]) + "\n")
    for _ in range(2):
        done = run("give_credits.py", file, variables=variables)
        assert (done.returncode, done.stdout) == (1, f"{address}: 5 credits\n")
        told = done.stderr.splitlines()
        assert [line.split(",")[0] for line in told] == ["line 3", "line 4", "line 5"]
        assert told[1] == "line 4, nobody@example.com: nobody has this address"
        assert people.balance(user) == 5


def test_the_campaign_reaches_who_has_no_credits(people: People, db: Connection, variables: dict[str, str]) -> None:
    people.new(credits=0)
    done = run("campaign.py", variables=variables)
    assert done.returncode == 0, done.stderr
    (campaign,) = db.execute(
        "select c.*, t.name as template from public.email_campaigns as c"
        " inner join public.email_templates as t on t.id = c.template_id where c.name like 'Come back, %'"
    ).fetchall()
    assert (campaign["status"], campaign["template"]) == ("scheduled", "come back")
    assert "recipients" in done.stdout
    db.execute("delete from public.email_campaigns where id = %s", [campaign["id"]])
    db.execute("delete from public.email_templates where name = 'come back'")


@pytest.mark.parametrize("worker", ["examples.greyscale_engine:GreyscaleEngine"], indirect=True)
@pytest.mark.usefixtures("worker")
def test_the_engine_and_the_webhook_service_do_a_kind_of_their_own(
    people: People, db: Connection, variables: dict[str, str], art: Path, tmp_path: Path
) -> None:
    text = (EXAMPLES / "greyscale_engine.py").read_text()
    db.execute(text[text.index("    insert into") : text.index(";\n") + 1].encode())
    port = free_port()
    service = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "examples.finished_operations:app", "--port", str(port)],
        cwd=PROJECT,
        env=os.environ | variables | {"WEBHOOK_TOKEN": "token", "RESULTS_FOLDER": str(tmp_path / "results")},
        stderr=subprocess.DEVNULL,
    )
    try:
        output = tmp_path / "unused.png"
        script = (EXAMPLES / "operate.py").read_text().replace('"upscale"', '"greyscale"').replace('{"scale": 2}', "{}")
        changed = tmp_path / "operate.py"
        changed.write_text(script)
        done = run(str(changed), art, output, variables=variables)
        assert done.returncode == 0, done.stderr
        (operation,) = db.execute(
            "select id, status from public.image_operations where operation_type = 'greyscale'"
        ).fetchall()
        told = {
            "type": "UPDATE",
            "table": "image_operations",
            "schema": "public",
            "record": {"id": str(operation["id"]), "status": "completed"},
            "old_record": {"id": str(operation["id"]), "status": "processing"},
        }
        url, token = f"http://127.0.0.1:{port}/", {"authorization": "Bearer token"}
        until(lambda: _is_there(url), 30)
        assert httpx.post(url, json=told).status_code == 401
        other = told | {"record": {"id": str(operation["id"]), "status": "processing"}}
        assert httpx.post(url, json=other, headers=token).status_code == 204
        heard = httpx.post(url, json=told, headers=token)
        assert (heard.status_code, heard.json()) == (200, {"saved": f"{operation['id']}.png"})
        saved = Image.open(tmp_path / "results" / f"{operation['id']}.png").convert("RGB")
        red, green, blue = saved.split()
        assert red.tobytes() == green.tobytes() == blue.tobytes()
        assert saved.size == (SIDE, SIDE)
    finally:
        service.terminate()
        service.wait(30)
        db.execute("delete from public.image_operations where operation_type = 'greyscale'")
        db.execute("delete from public.operation_types where name = 'greyscale'")


def _is_there(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 405
    except httpx.TransportError:
        return False
