"""A worker while its database goes away, on a stack of its own because other tests keep connections to theirs.

After each fault the same must hold: the worker still runs, one ending for each operation, and credits that add up.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from local.stack import Stack, StackStatus
from tests.e2e.operations import assert_ledger, connect, customer, orders, status, upscale
from tests.e2e.proxy import Proxy
from tests.e2e.worker_process import WorkerProcess, until

OUTAGE = 1.0  # seconds
CLAIM = b"claim_image_operation"


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    own_stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        own_stack.up()
        yield own_stack
    finally:
        own_stack.down()


@pytest.fixture
def own(own_stack: Stack) -> StackStatus:
    status = own_stack.status()
    assert status is not None
    return status


def restart(own_stack: Stack) -> None:
    own_stack.postgres.stop()
    time.sleep(OUTAGE)
    own_stack.postgres.start()


def crash(own_stack: Stack) -> None:
    (server,) = own_stack.postgres.processes()
    for process in [server, *server.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # a session may end by itself meanwhile, or because the server did
            process.kill()
    server.wait(10)
    time.sleep(OUTAGE)
    own_stack.postgres.start()


def terminate_sessions(own_stack: Stack) -> None:
    with psycopg.connect(own_stack.state.admin_url, autocommit=True) as admin:
        for _ in range(5):
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
            time.sleep(OUTAGE / 5)


def exhaust_connections(own_stack: Stack) -> None:
    """Take all connections there are, and then those of everybody else."""
    taken: list[psycopg.Connection] = []
    with psycopg.connect(own_stack.state.admin_url, autocommit=True) as admin:
        for _ in range(2):
            with suppress(psycopg.OperationalError):  # too many clients already
                while True:
                    taken.append(psycopg.connect(own_stack.state.admin_url))
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
                " and backend_type = 'client backend' and pid <> all (%s)",
                ([connection.info.backend_pid for connection in taken],),
            )
        time.sleep(2 * OUTAGE)
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("fault", [restart, crash, terminate_sessions, exhaust_connections])
def test_the_worker_survives_and_loses_nothing(
    fault: Callable[[Stack], None], own_stack: Stack, own: StackStatus, tmp_path: Path
) -> None:
    """One operation runs when it happens; of another the claim is committed and its answer lost."""
    person = customer(own)
    engine = tmp_path / "engine"
    engine.mkdir()
    running = upscale(person, orders("meet", folder=str(engine), expected=2))
    with Proxy(own.api_url) as proxy:
        worker = WorkerProcess(own, tmp_path / "worker.log", real=False, url=proxy.url, CONCURRENCY=2, LEASE_SECONDS=30)
        try:
            until(lambda: worker.said("operation_started"))
            proxy.loses = CLAIM
            claimed = upscale(person, orders("echo"))
            until(lambda: status(person, claimed) == "processing")
            until(lambda: worker.said("api_unreachable"))
            fault(own_stack)
            (engine / "go on").touch()
            proxy.loses = None
            until(lambda: {status(person, running), status(person, claimed)} == {"completed"}, 40)
            waiting = upscale(person, orders("echo"))
            until(lambda: status(person, waiting) == "completed", 40)
            assert worker.process.poll() is None
        finally:
            worker.process.kill()
            worker.process.wait()
    with connect(own) as db:
        assert_ledger(db, person, completed=3, failed=0)
        assert db.execute("select * from public.verify_ledger()").fetchall() == []
    assert [person.operation(operation)["attempts"] for operation in (running, claimed, waiting)] == [1, 1, 1]
