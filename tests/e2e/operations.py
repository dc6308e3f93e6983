"""Operations of the fake engine on a running stack, and what must hold of them however a test went."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from local.stack import StackStatus
from tests.e2e.people import Person, give_credits, sign_up
from tests.e2e.worker_process import WorkerProcess

CREDITS = 20
Database = psycopg.Connection[DictRow]


def customer(stack: StackStatus) -> Person:
    """Somebody with CREDITS credits."""
    person = sign_up(stack)
    give_credits(stack, person, CREDITS - person.credits())
    return person


@contextmanager
def connect(stack: StackStatus) -> Iterator[Database]:
    with psycopg.connect(stack.db_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def orders(do: str, **more: Any) -> bytes:
    """A "picture" that tells the fake engine what to do."""
    return json.dumps({"do": do} | more).encode()


def upscale(person: Person, picture: bytes, media_type: str = "image/png") -> str:
    """Upload and ask for an upscale; returns the operation's id."""
    return str(person.request(person.upload("art", picture, media_type), "upscale")["id"])


def status(person: Person, operation_id: str) -> str:
    return str(person.operation(operation_id)["status"])


def statuses(db: Database, operations: list[str]) -> dict[str, int]:
    rows = db.execute(
        "select status, count(*)::int as operations from public.image_operations where id = any(%s) group by 1",
        (operations,),
    )
    return {row["status"]: row["operations"] for row in rows}


def works(db: Database, worker: WorkerProcess) -> bool:
    """Whether an operation is leased to this worker, dead or alive."""
    found = db.execute(
        "select from public.image_operations where status = 'processing' and worker_id like %s limit 1",
        (f"%-{worker.process.pid}-%",),
    )
    return found.fetchone() is not None


def results(db: Database, operation_id: str) -> list[str]:
    rows = db.execute(
        "select name from storage.objects where bucket_id = 'results' and name like %s", (f"%/{operation_id}/%",)
    )
    return [row["name"] for row in rows]


def assert_ledger(db: Database, person: Person, *, completed: int, failed: int) -> None:
    """Every operation was charged once, every failed one refunded once, and the balance says the same."""
    rows = db.execute(
        "select transaction_type, sum(amount)::int as credits, count(*)::int as entries"
        " from public.credit_transactions where user_id = %s group by 1",
        (person.id,),
    ).fetchall()
    entries = {row["transaction_type"]: row["entries"] for row in rows}
    assert entries.get("usage", 0) == completed + failed
    assert entries.get("refund", 0) == failed
    assert person.credits() == CREDITS - completed


def assert_completed_once(db: Database, person: Person, operation_id: str) -> dict[str, Any]:
    operation = person.operation(operation_id)
    assert operation["status"] == "completed"
    output = operation["output_data"]
    assert sorted(f"results/{name}" for name in results(db, operation_id)) == sorted(
        [output["url"], output["thumbnail_url"]]
    )
    assert_ledger(db, person, completed=1, failed=0)
    return operation
