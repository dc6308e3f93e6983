"""Realtime when something fails: its process, Postgres, the slot, a client that does not read."""

import socket as sockets
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg import Connection
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from local.stack import Stack
from tests.e2e.worker_process import until
from tests.local.realtime_socket import Realtime, Socket

NOTES = {"event": "INSERT", "schema": "live", "table": "notes"}
SLOTS = "select slot_name from pg_replication_slots where slot_name like 'realtime%'"


@pytest.fixture
def notes(live: Connection) -> Connection:
    live.execute(
        "create table live.notes (id serial primary key, body text);"
        "alter publication supabase_realtime add table live.notes"
    )
    return live


def subscribed_again(socket: Socket) -> None:
    """Wait for the message that says that changes may have been missed."""
    assert socket.next("system", seconds=20).payload["message"] == "Subscribed to PostgreSQL"


def answer(url: str, query: str) -> object:
    """The only value of a query, asked over a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def test_subscriptions_outlive_a_restart_of_postgres(local_stack: Stack, realtime: Realtime, notes: Connection) -> None:
    url = local_stack.state.db_url
    with realtime.socket() as socket:
        socket.subscribe(NOTES)
        local_stack.postgres.stop()
        try:
            refused = socket.join("private", private=True)
            reason = "UnableToConnectToProject: Realtime was unable to connect to the project database"
            assert refused["response"]["reason"] == reason
            assert socket.join("public")["status"] == "ok"
        finally:
            local_stack.postgres.start()
        subscribed_again(socket)
        answer(url, "insert into live.notes (body) values ('after') returning id")
        assert socket.change()["record"]["body"] == "after"
        answer(url, "select realtime.send('{}', 'e', 'public', false)")
        socket.next_binary()


def test_all_its_backends_may_be_terminated(local_stack: Stack, realtime: Realtime, notes: Connection) -> None:
    with realtime.socket() as socket:
        socket.subscribe(NOTES)
        terminate = (
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'realtime%'"
        )
        assert answer(local_stack.state.admin_url, terminate)
        subscribed_again(socket)
        notes.execute("insert into live.notes (body) values ('after')")
        assert socket.change()["record"]["body"] == "after"
        socket.subscribe(NOTES, topic="again")


def test_a_lost_slot_is_made_again(realtime: Realtime, notes: Connection) -> None:
    """What invalidation does, in a way that takes no gigabytes: the publication is gone while something is decoded."""
    with realtime.socket() as socket:
        socket.subscribe(NOTES)
        tables = notes.execute(
            "select string_agg(format('%I.%I', schemaname, tablename), ', ') from pg_publication_tables"
            " where pubname = 'supabase_realtime'"
        ).fetchone()
        assert tables is not None
        slot = notes.execute(SLOTS).fetchone()
        notes.execute("drop publication supabase_realtime")
        try:
            notes.execute("insert into live.notes (body) values ('unpublished')")
            time.sleep(0.5)
        finally:
            notes.execute(f"create publication supabase_realtime for table {tables[0]}")
        subscribed_again(socket)
        while socket.seen:  # once for each slot that was lost
            socket.seen.pop()
        notes.execute("insert into live.notes (body) values ('published')")
        assert socket.change()["record"]["body"] == "published"
        assert notes.execute(SLOTS).fetchall() != [slot]


def test_there_is_one_slot_and_it_holds_nothing_back(realtime: Realtime, notes: Connection) -> None:
    """It moves on, whether somebody listens or not."""

    def held_back() -> int:
        row = notes.execute(
            "select pg_current_wal_lsn() - confirmed_flush_lsn from pg_replication_slots"
            " where slot_name like 'realtime%' and temporary"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def write() -> None:
        notes.execute("insert into live.notes (body) select repeat('x', 1000) from generate_series(1, 5000)")

    assert len(notes.execute(SLOTS).fetchall()) == 1
    write()
    until(lambda: held_back() < 100_000, 10)
    with realtime.socket() as socket:
        socket.subscribe(NOTES | {"event": "DELETE"})
        write()
        until(lambda: held_back() < 100_000, 10)
    assert notes.execute("show max_slot_wal_keep_size").fetchone() == ("256MB",)


def memory(stack: Stack) -> int:
    return max(process.memory_info().rss for process in stack.realtime.processes())


def test_a_client_that_does_not_read_is_dropped_and_the_others_are_served(
    local_stack: Stack, realtime: Realtime
) -> None:
    with sockets.create_connection(("127.0.0.1", local_stack.state.realtime_port)) as plain:
        slow = connect(realtime.url(local_stack.state.publishable_key), sock=plain, max_size=None, max_queue=1)
        slow_socket = Socket(slow, "2.0.0")
        slow_socket.join("crowd")
        with realtime.socket() as sender, realtime.socket() as other:
            sender.join("crowd", broadcast={"ack": True})
            other.join("crowd")
            before = memory(local_stack)
            for number in range(60):
                payload = {"event": "e", "payload": {"n": number, "x": "x" * 1_000_000}}
                sender.reply(sender.push("realtime:crowd", "broadcast", payload))
                assert other.next("broadcast").payload["payload"]["n"] == number
            assert memory(local_stack) - before < 60_000_000
        until(lambda: is_closed(slow))


def test_a_thousand_clients_come_and_go(realtime: Realtime, local_stack: Stack, notes: Connection) -> None:
    """Vanishing without a word leaves nothing behind."""
    for _ in range(10):
        crowd = [realtime.socket() for _ in range(50)]
        for socket in crowd:
            socket.subscribe(NOTES)
        for socket in crowd:
            socket.connection.socket.close()
    with realtime.socket() as socket:
        socket.subscribe(NOTES)
        notes.execute("insert into live.notes (body) values ('x')")
        assert socket.change()["record"]["body"] == "x"
    server = max(local_stack.realtime.processes(), key=psutil.Process.create_time)
    until(lambda: len(server.net_connections()) < 40, 10)


def is_closed(connection: ClientConnection) -> bool:
    """Whether there is nothing more to read."""
    try:
        connection.recv(5)
    except ConnectionClosed:
        return True
    return False


@pytest.fixture
def kill(local_stack: Stack) -> Iterator[Callable[[], None]]:
    def kill_server() -> None:
        server = max(local_stack.realtime.processes(), key=psutil.Process.create_time)
        server.kill()
        server.wait()

    yield kill_server
    until(local_stack.realtime.running, 15)


def test_clients_that_connect_again_after_a_kill_find_everything_as_it_was(
    realtime: Realtime, notes: Connection, kill: Callable[[], None], local_stack: Stack
) -> None:
    token = realtime.token(sub=str(uuid4()))
    with realtime.socket() as socket:
        socket.subscribe(NOTES, token=token)
        kill()
        with pytest.raises(ConnectionClosed):
            socket.connection.recv(10)
    until(local_stack.realtime.running, 15)
    with realtime.socket() as socket:
        socket.subscribe(NOTES, token=token)
        notes.execute("insert into live.notes (body) values ('after')")
        assert socket.change()["record"]["body"] == "after"
    assert len(notes.execute(SLOTS).fetchall()) == 1
