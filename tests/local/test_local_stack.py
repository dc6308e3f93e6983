"""The embedded stack as its users meet it: started twice, killed, from two folders, with things that are wrong."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
import psycopg
import pytest
from postgrest import APIError
from supabase import create_client
from typer.testing import CliRunner

from cli.errors import CommandError
from cli.main import app
from cli.stack import print_status
from local import postgres as postgres_module
from local import processes
from local.environment import NO_HOME, own
from local.errors import StackError
from local.packages import NODE
from local.postgres import Postgres, as_allowed_user
from local.stack import PROJECT, DockerStack, Stack, StackStatus
from local.state import StackState


def processes_of(directory: Path) -> list[psutil.Process]:
    """Every process whose command line names the directory, Postgres' own children included."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in argument for argument in process.info["cmdline"] or []):
            found += [process, *process.children(recursive=True)]
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one small migration, so that these tests do not depend on the real ones."""
    root = tmp_path_factory.mktemp("project")
    migrations = root / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    shutil.copy(PROJECT / "supabase" / "config.toml", root / "supabase" / "config.toml")
    (root / "supabase" / "seed.sql").write_text("insert into public.notes (id) values (1) on conflict do nothing;\n")
    (migrations / "20260101000000_notes.sql").write_text(
        "create table public.notes (id integer primary key, made_at timestamptz not null default now());\n"
        "create table public.things (kind text, price numeric, size bigint);\n"
        "grant all on public.things to service_role;\n"
        "create function public.kind(value jsonb) returns text language sql return jsonb_typeof(value);\n"
        "create table public.closed (id integer primary key);\n"
        "alter table public.closed enable row level security;\n"
        "revoke all on public.closed from anon, authenticated, service_role;\n"
        "insert into storage.buckets (id, name) values ('files', 'files');\n"
    )
    (root / "node_modules").symlink_to(PROJECT / "node_modules")
    return root


@pytest.fixture
def new_stack(tmp_path: Path, project: Path) -> Iterator[Stack]:
    """A stack in a folder of its own, with nothing started yet."""
    stack = Stack(tmp_path / "stack", project)
    yield stack
    stack.down()
    assert processes_of(tmp_path / "stack") == []


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Stack]:
    """One for all the tests that leave the data as it is: whatever they stop or kill, the next `up` mends."""
    stack = Stack(tmp_path_factory.mktemp("own") / "stack", project)
    yield stack
    stack.down()
    assert processes_of(stack.directory) == []


def notes(status: StackStatus) -> Any:
    client = create_client(status.api_url, status.secret_key)
    return client.table("notes").select("*").execute().data


def test_up_twice_keeps_addresses_keys_and_data(new_stack: Stack) -> None:
    first = new_stack.up()
    with psycopg.connect(first.db_url) as connection:
        connection.execute("insert into public.notes (id) values (2)")
    new_stack.down()
    second = Stack(new_stack.directory, new_stack.project).up()
    assert second.publishable_key == first.publishable_key
    assert sorted(row["id"] for row in notes(second)) == [1, 2]


def test_down_leaves_nothing_running_and_may_be_repeated(own_stack: Stack) -> None:
    own_stack.up()
    assert processes_of(own_stack.directory)
    own_stack.down()
    assert processes_of(own_stack.directory) == []
    assert own_stack.status() is None
    own_stack.down()


def kill_gateway(stack: Stack) -> None:
    processes.stop(stack.gateway.processes(), signal.SIGKILL)


def kill_postgres(stack: Stack) -> None:
    processes.stop(stack.postgres.processes(), signal.SIGKILL)


def kill_realtime(stack: Stack) -> None:
    processes.stop(stack.realtime.processes(), signal.SIGKILL)


def kill_mailbox(stack: Stack) -> None:
    processes.stop(stack.mailbox.processes(), signal.SIGKILL)


def kill_everything(stack: Stack) -> None:
    kill_gateway(stack)
    for process in processes_of(stack.directory):
        with suppress(psutil.NoSuchProcess):  # it ended with another one
            process.kill()


@pytest.mark.parametrize("kill", [kill_gateway, kill_realtime, kill_mailbox, kill_postgres, kill_everything])
def test_up_mends_a_stack_whose_parts_were_killed(own_stack: Stack, kill: Callable[[Stack], None]) -> None:
    own_stack.up()
    kill(own_stack)
    assert own_stack.status() is None
    assert [row["id"] for row in notes(own_stack.up())] == [1]


@pytest.mark.parametrize("command", [["true"], ["sleep", "60"]])
def test_the_lock_of_a_dead_server_keeps_no_new_one_away(own_stack: Stack, command: list[str]) -> None:
    own_stack.up()
    lock = own_stack.postgres.data / "postmaster.pid"
    _, *rest = lock.read_text().splitlines(keepends=True)
    kill_postgres(own_stack)
    with subprocess.Popen(command) as process:  # "true" has ended, and is not reaped
        try:
            lock.write_text(f"{process.pid}\n{''.join(rest)}")
            own_stack.postgres.start()
        finally:
            process.kill()
    assert [row["id"] for row in notes(own_stack.up())] == [1]


def take_port(port: int) -> socket.socket:
    """Listen there, as soon as the kernel has given up what a process held that has just ended."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_sign_ups_are_confirmed_by_mail_where_the_project_asks_for_it(tmp_path: Path, project: Path) -> None:
    careful = shutil.copytree(project, tmp_path / "project", symlinks=True)
    config = careful / "supabase" / "config.toml"
    config.write_text(config.read_text().replace("enable_confirmations = false", "enable_confirmations = true"))
    stack = Stack(tmp_path / "stack", careful)
    try:
        port = stack.up().smtp_url
        stack.mailbox.stop()
        with take_port(stack.state.smtp_port):
            status = stack.up()
        assert status.smtp_url != port
        client = create_client(status.api_url, status.publishable_key)
        assert client.auth.sign_up({"email": "ada@example.com", "password": "long-enough"}).session is None
        [mail] = httpx.get(f"{status.mail_url}/api/v1/search", params={"query": "to:ada"}).json()["messages"]
        text = httpx.get(f"{status.mail_url}/api/v1/message/{mail['ID']}").json()["Text"]
        code = re.search(r"\b\d{6}\b", text)
        assert code
        assert client.auth.verify_otp({"email": "ada@example.com", "token": code[0], "type": "email"}).session
    finally:
        stack.down()


def test_the_gateway_replaces_its_serving_process(own_stack: Stack) -> None:
    status = own_stack.up()
    newest = max(own_stack.gateway.processes(), key=psutil.Process.create_time)
    processes.stop([newest], signal.SIGKILL)
    assert [row["id"] for row in notes(status)] == [1]


def test_the_realtime_server_is_replaced_when_it_dies_and_ends_with_its_parent(own_stack: Stack) -> None:
    status = own_stack.up()
    parent, server = sorted(own_stack.realtime.processes(), key=psutil.Process.create_time)
    processes.stop([server], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not own_stack.realtime.running():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert own_stack.status() == status

    processes.stop([parent], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while own_stack.realtime.processes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert own_stack.status() is None


def test_the_gateway_outlives_its_database(own_stack: Stack) -> None:
    status = own_stack.up()
    own_stack.postgres.stop()
    with pytest.raises(APIError):
        notes(status)
    own_stack.postgres.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert [row["id"] for row in notes(status)] == [1]
            return
        except (APIError, httpx.TransportError):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_gateway_that_starts_without_its_database_does_not_deny_what_is_in_it(own_stack: Stack) -> None:
    status = own_stack.up()
    own_stack.postgres.stop()
    newest = max(own_stack.gateway.processes(), key=psutil.Process.create_time)
    processes.stop([newest], signal.SIGKILL)

    def read() -> int:
        headers = {"apikey": status.secret_key}
        try:
            return httpx.get(f"{status.api_url}/rest/v1/notes", headers=headers).status_code
        except httpx.TransportError:  # it is being replaced
            return 0

    deadline = time.monotonic() + 20
    while (answer := read()) == 0:
        assert time.monotonic() < deadline
    assert answer == 503
    own_stack.postgres.start()
    while (answer := read()) == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer == 200


def test_up_from_two_processes_at_once_starts_one_stack(new_stack: Stack) -> None:
    statuses: list[StackStatus] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(Stack(new_stack.directory, new_stack.project).up()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 2
    assert statuses[0] == statuses[1]
    assert len(new_stack.gateway.processes()) == 2  # one that serves, and its parent


def test_down_finds_what_runs_though_the_data_was_deleted(new_stack: Stack) -> None:
    new_stack.up()
    shutil.rmtree(new_stack.directory)
    Stack(new_stack.directory, new_stack.project).down()
    assert processes_of(new_stack.directory) == []


def test_a_stack_whose_folder_was_moved_is_found(new_stack: Stack, tmp_path: Path) -> None:
    first = new_stack.up()
    folder = new_stack.directory.rename(tmp_path / "moved")
    moved = Stack(folder, new_stack.project)
    assert moved.status() is None, "its paths are those of before"
    assert moved.up() == first
    assert processes_of(new_stack.directory) == []
    assert [row["id"] for row in notes(first)] == [1]
    again = Stack(folder.rename(tmp_path / "moved again"), new_stack.project)
    again.down()
    assert processes_of(folder) == processes_of(again.directory) == []


def test_two_folders_run_side_by_side(own_stack: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "other", own_stack.project)
    try:
        one, two = own_stack.up(), other.up()
        assert one.api_url != two.api_url
        assert one.secret_key != two.secret_key
        assert httpx.get(f"{one.api_url}/rest/v1/notes", headers={"apikey": two.secret_key}).status_code == 401
    finally:
        other.down()
    assert own_stack.status() == one


def test_a_port_of_last_time_that_is_taken_now_is_replaced(new_stack: Stack) -> None:
    first = new_stack.up()
    new_stack.down()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port is in TIME_WAIT
        thief.bind(("127.0.0.1", new_stack.state.postgres_port))
        thief.listen()
        second = Stack(new_stack.directory, new_stack.project).up()
    assert second.db_url != first.db_url
    assert [row["id"] for row in notes(second)] == [1]


def test_a_broken_migration_is_one_clear_error_and_changes_nothing(own_stack: Stack, project: Path) -> None:
    status = own_stack.up()
    broken = project / "supabase" / "migrations" / "20260102000000_broken.sql"
    broken.write_text("create table public.half (id integer);\nselect nonsense from nowhere;\n")
    try:
        with pytest.raises(StackError) as raised:
            own_stack.up()
    finally:
        broken.unlink()
    assert "20260102000000_broken.sql" in str(raised.value)
    assert 'relation "nowhere" does not exist' in str(raised.value)
    with psycopg.connect(status.db_url) as connection:
        assert connection.execute("select to_regclass('public.half')").fetchone() == (None,)


def test_a_new_migration_is_served_at_once(new_stack: Stack, project: Path) -> None:
    new_stack.up()
    # Older than what is applied, as a merged branch may bring it.
    added = project / "supabase" / "migrations" / "20251231000000_more.sql"
    added.write_text("create table public.more (id integer primary key);\n")
    try:
        status = new_stack.up()
    finally:
        added.unlink()
    assert create_client(status.api_url, status.secret_key).table("more").select("*").execute().data == []


@pytest.fixture
def settings(project: Path) -> Iterator[Path]:
    """The project's settings, which are put right again."""
    path = project / "supabase" / "config.toml"
    before = path.read_text()
    yield path
    path.write_text(before)


def told_of_settings(stack: Stack) -> str:
    """What `up` says, in few lines and without a secret."""
    with pytest.raises(StackError) as raised:
        stack.up()
    told = str(raised.value)
    assert len(told.splitlines()) < 5
    state = stack.state
    for secret in (state.admin_password, state.postgres_password, state.jwt_secret, state.secret_key):
        assert secret not in told
    return told


UNKNOWN = "\n[storage.s3_protocol]\nenabled = true\n"


def test_a_setting_that_a_new_stack_cannot_use_is_one_sentence(new_stack: Stack, settings: Path) -> None:
    before = settings.read_text()
    for change, sentence in (
        (before + UNKNOWN, "storage.s3_protocol: the stack on this machine does not know it. Change it, or leave"),
        (before.replace("jwt_expiry = 3600", 'jwt_expiry = "soon"'), "auth.jwt_expiry: Expected number."),
        (before.replace("[auth]", "[auth"), f"{settings} cannot be read: Expected ']' at the end of a table"),
        ('auth = "off"\n', "auth in supabase/config.toml has to be a table: [auth]."),
    ):
        settings.write_text(change)
        assert sentence in told_of_settings(new_stack)


def test_a_setting_that_a_stack_cannot_use_any_more_is_one_sentence(own_stack: Stack, settings: Path) -> None:
    own_stack.up()
    kill_gateway(own_stack)
    before = settings.read_text()
    settings.write_text(before + UNKNOWN)
    assert "storage.s3_protocol: the stack on this machine does not know it" in told_of_settings(own_stack)
    settings.write_text(before + '\n[storage.buckets.files]\nfile_size_limit = "20 apples"\n')
    assert "invalid storage.buckets.files.file_size_limit" in told_of_settings(own_stack)


def test_no_error_tells_a_password() -> None:
    told = "no postgresql://postgres:s3cr3t/x+@127.0.0.1:5432/postgres with sb_secret_abc-1, ada@example.com"
    shown = "no postgresql://postgres:•••@127.0.0.1:5432/postgres with sb_secret_•••, ada@example.com"
    assert {str(StackError(told)), str(CommandError(told))} == {shown}


def test_data_of_another_version_is_told_from_that_of_this_one(new_stack: Stack, project: Path) -> None:
    new_stack.up()
    (applied,) = (project / "supabase" / "migrations").glob("*.sql")
    before = applied.read_text()
    try:
        applied.write_text(f"-- Another comment, and more space.\n\n{before.replace(', ', ',   ')}")
        new_stack.up()
        applied.write_text(before.replace("integer primary key", "bigint primary key"))
        changed = "1 of 1 migrations were changed after they were applied to this data (20260101000000_notes.sql)"
        with pytest.raises(StackError, match=f"^{re.escape(changed)}. To begin with empty tables: dtf down, delete /"):
            new_stack.up()
        applied.rename(applied.with_name("20260101000001_notes.sql"))
        with pytest.raises(StackError, match=re.escape(changed)):
            new_stack.up()
    finally:
        applied.with_name("20260101000001_notes.sql").unlink(missing_ok=True)
        applied.write_text(before)
    assert [row["id"] for row in notes(new_stack.up())] == [1]


def test_the_api_answers_as_a_hosted_project_does(own_stack: Stack) -> None:
    status = own_stack.up()
    api = create_client(status.api_url, status.secret_key)
    made_at = notes(status)[0]["made_at"]
    assert datetime.fromisoformat(made_at).tzinfo is not None
    assert "T" in made_at
    for value, kind in (({"a": 1}, "object"), ([1], "array"), (5, "number"), (True, "boolean"), ("text", "string")):
        assert api.rpc("kind", {"value": value}).execute().data == kind
    thing = {"kind": "unknown", "price": 6.5, "size": 2**40}
    things = api.table("things")
    things.insert([thing, {**thing, "kind": "known"}]).execute()
    assert things.select("*").eq("kind", "unknown").gt("price", 1).lt("price", 9).execute().data == [thing]
    assert things.select("*").in_("kind", ["unknown", "other"]).execute().data == [thing]
    assert len(things.select("*").neq("kind", "unknown").execute().data) == 1
    api.storage.from_("files").upload("a b.txt", b"hello", {"content-type": "text/plain"})
    signed = api.storage.from_("files").create_signed_url("a b.txt", 60)["signedURL"]
    assert httpx.get(str(signed)).content == b"hello"


@pytest.mark.parametrize("key", ["publishable_key", "secret_key"])
def test_the_api_roles_have_no_rights_but_those_of_the_migrations(own_stack: Stack, key: str) -> None:
    status = own_stack.up()
    api = create_client(status.api_url, getattr(status, key))
    with pytest.raises(APIError) as raised:
        api.table("closed").select("*").execute()
    assert raised.value.code == "42501"


def dtf(*arguments: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, "DTF_DIRECTORY": str(directory), **environment},
    )


def test_a_taken_port_is_one_sentence_and_a_non_zero_exit(tmp_path: Path) -> None:
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        port = thief.getsockname()[1]
        done = dtf("up", "--port", str(port), directory=tmp_path / "stack")
    dtf("down", directory=tmp_path / "stack")
    assert done.returncode == 1
    assert f"Port {port} is taken by another program" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(tmp_path) == []


def test_down_names_the_services_that_still_run_and_leaves_them(tmp_path: Path) -> None:
    waiting = ["-c", "import time; time.sleep(60)"]
    here = os.environ | {"DTF_DIRECTORY": str(tmp_path)}
    elsewhere = os.environ | {"SUPABASE_URL": "https://hosted.supabase.co"}
    with ExitStack() as ending:

        def start(*command: str, **options: Any) -> subprocess.Popen[bytes]:
            process = ending.enter_context(subprocess.Popen([sys.executable, *waiting, *command], **options))
            ending.callback(process.kill)
            return process

        left = [start("/somewhere/bin/dtf", "run", "email", env=here), start("-m", "services.images", env=here)]
        start("dtf", "maintain", env=elsewhere)
        start("dtf", "billing", "run", env=here)
        told = dtf("down", directory=tmp_path).stderr
        assert set(re.findall(r"! dtf run (\w+) still runs .*: kill (\d+)", told)) == {
            ("email", str(left[0].pid)),
            ("images", str(left[1].pid)),
        }
        assert [process.poll() for process in left] == [None, None]


def test_status_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    done = dtf("status", directory=tmp_path / "none")
    assert done.returncode == 1
    assert "Start one with: dtf up" in done.stderr


def test_status_prints_json_for_programs_and_hides_secrets_from_people(stack: StackStatus, local_stack: Stack) -> None:
    printed = dtf("status", "--json", directory=local_stack.directory)
    assert json.loads(printed.stdout) == stack.as_dict()
    shown = dtf("status", directory=local_stack.directory)
    assert stack.api_url in shown.stdout
    assert stack.secret_key not in shown.stdout
    assert local_stack.state.postgres_password not in shown.stdout


def test_a_missing_tool_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="make install"):
        Stack(tmp_path / "stack", tmp_path).up()


@pytest.mark.parametrize("uid", [0, 54_321])
def test_postgres_runs_as_a_user_with_a_name_for_root_and_for_a_user_without(
    uid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    postgres = Postgres(tmp_path, StackState())
    if subprocess.run(["/usr/bin/env", "unshare", "--user", "true"], capture_output=True).returncode == 0:
        command = [*as_allowed_user(), "id", "--user", "--name"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() not in ("root", "")
    else:
        with pytest.raises(StackError, match="does not allow user namespaces"):
            as_allowed_user()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(StackError, match=r"Postgres refuses to run as .* \(Debian package util-linux\)"):
        postgres.start()
    assert not list(tmp_path.iterdir()), "its password must not be left"


def test_our_node_does_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    done = subprocess.run([NODE, "-p", "os.homedir()"], env=own(), capture_output=True, text=True)
    assert done.stdout.strip() == NO_HOME, done.stderr


def test_npm_does_without_a_home() -> None:
    command = [sys.executable, "-m", "local.npm", "config", "get", "cache"]
    done = subprocess.run(command, env={**os.environ, "HOME": NO_HOME}, capture_output=True, text=True)
    assert done.stdout.strip() == str(PROJECT / "node_modules" / ".npm"), done.stderr


def test_a_full_disk_is_one_sentence_and_leaves_no_drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = CliRunner().invoke(app, ["up"], env={"DTF_DIRECTORY": str(tmp_path)})
    assert done.exit_code == 1
    state = tmp_path / "state.json"
    assert f"{state} could not be written: No space left on device. Make room, and try again." in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


# What a shell may say, for other programs of its user's.
ELSEWHERE = {
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "all_proxy": "socks://127.0.0.1:9/",
    "PGSSLMODE": "require",
    "PGSERVICE": "elsewhere",
    "PGHOSTADDR": "192.0.2.1",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCHANNELBINDING": "require",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGTZ": "Asia/Tokyo",
    "NODE_OPTIONS": "--require=./nowhere.js",
    "SUPABASE_DB_PASSWORD": "another",
    "SOMEBODYS_TOKEN": "secret",
    # A terminal that is not written to in UTF-8.
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
}
UP = "import sys; from pathlib import Path; from local.stack import Stack; Stack(*map(Path, sys.argv[1:])).up()"


def test_the_stack_knows_nothing_of_what_a_shell_says_for_others(new_stack: Stack) -> None:
    command = [sys.executable, "-c", UP, str(new_stack.directory), str(new_stack.project)]
    subprocess.run(command, env=os.environ | ELSEWHERE, cwd=PROJECT, check=True, timeout=120)
    known: set[str] = set()
    for process in processes_of(new_stack.directory):
        known |= process.environ().keys()
    assert "PATH" in known
    assert known & (ELSEWHERE.keys() - {"LC_ALL"}) == set()


def test_commands_find_the_stack_whatever_a_shell_says(local_stack: Stack, stack: StackStatus) -> None:
    done = dtf("status", directory=local_stack.directory, **ELSEWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("? The stack is running (embedded).")
    done = dtf("users", "list", "--json", directory=local_stack.directory, **ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), list)


def test_a_proxy_that_cannot_be_used_is_one_sentence(local_stack: Stack) -> None:
    done = dtf("status", directory=local_stack.directory, ALL_PROXY="socks4://127.0.0.1:9")
    assert done.returncode == 1
    assert "ALL_PROXY cannot be used: a proxy is one of http://" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_not_started_a_second_time(
    new_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "START_SECONDS", 2)
    monkeypatch.setattr(Postgres, "_answers", lambda _: False)
    new_stack.directory.mkdir()
    with pytest.raises(StackError, match="Postgres did not answer within 2 s"):
        new_stack.postgres.start()
    assert "already exists" not in new_stack.postgres.log.read_text()
    assert processes_of(new_stack.directory) == []


def test_requests_without_a_key_are_refused(stack: StackStatus) -> None:
    assert httpx.get(f"{stack.api_url}/rest/v1/profiles").status_code == 401


class TestSupabaseStart:
    """Where Docker runs the official stack, dtf uses that one. The CLI and docker are stood in for on the PATH."""

    STATUS: ClassVar = {
        "API_URL": "http://127.0.0.1:54321",
        "DB_URL": "postgresql://postgres:postgres@127.0.0.1:54322/postgres",
        "PUBLISHABLE_KEY": "sb_publishable_x",
        "SECRET_KEY": "sb_secret_x",
    }

    @pytest.fixture
    def docker_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        tools = tmp_path / "tools"
        tools.mkdir()
        self.script(tools / "docker", "exit 0")
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        (tmp_path / "node_modules" / ".bin").mkdir(parents=True)
        (tmp_path / "supabase").mkdir()
        (tmp_path / "supabase" / "config.toml").write_text("[local_smtp]\nsmtp_port = 54325\n")
        return tmp_path

    def script(self, path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def cli(self, project: Path, body: str) -> None:
        self.script(project / "node_modules" / ".bin" / "supabase", body)

    def test_the_running_stack_is_used(self, docker_project: Path) -> None:
        told = self.STATUS | {"MAILPIT_URL": "http://127.0.0.1:54324"}
        self.cli(docker_project, f"echo 'Stopped services: []' >&2; echo '{json.dumps(told)}'")
        assert DockerStack(docker_project).status() == StackStatus(
            "supabase",
            self.STATUS["API_URL"],
            self.STATUS["DB_URL"],
            self.STATUS["PUBLISHABLE_KEY"],
            self.STATUS["SECRET_KEY"],
            mail_url="http://127.0.0.1:54324",
            smtp_url="smtp://127.0.0.1:54325",
        )

    def test_people_see_the_password_only_as_dots(self, capsys: pytest.CaptureFixture[str]) -> None:
        status = {name.lower(): value for name, value in self.STATUS.items()}
        print_status(StackStatus("supabase", **status), as_json=False)
        assert "postgresql://postgres:•••@127.0.0.1:54322/postgres" in capsys.readouterr().out

    def test_older_key_names_are_understood(self, docker_project: Path) -> None:
        old = {"API_URL": "http://a", "DB_URL": "postgresql://p:q@h:1/b"}
        old |= {"ANON_KEY": "anon", "SERVICE_ROLE_KEY": "service"}
        self.cli(docker_project, f"echo '{json.dumps(old)}'")
        status = DockerStack(docker_project).status()
        assert status is not None
        assert (status.publishable_key, status.secret_key) == ("anon", "service")

    def test_up_brings_it_the_new_migrations_and_down_stops_it(self, docker_project: Path) -> None:
        calls = docker_project / "calls"
        self.cli(docker_project, f"echo \"$1 $2\" >> {calls}; echo '{json.dumps(self.STATUS)}'")
        running = DockerStack(docker_project)
        status = running.up()
        assert status is not None
        assert status.kind == "supabase"
        running.down()
        assert [line.split(" --")[0] for line in calls.read_text().splitlines()] == ["status", "db push", "stop"]

    def test_docker_without_a_stack_means_the_embedded_one(self, docker_project: Path) -> None:
        self.cli(docker_project, "echo 'supabase start is not running' >&2; exit 1")
        assert DockerStack(docker_project).status() is None

    def test_half_a_stack_is_an_error(self, docker_project: Path) -> None:
        self.cli(docker_project, """echo '{"DB_URL": "postgresql://p:q@h:1/b"}'""")
        with pytest.raises(StackError, match="API_URL"):
            DockerStack(docker_project).status()

    def test_without_docker_the_cli_is_not_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert DockerStack(tmp_path).status() is None
