"""Postgres Changes, frame by frame: who is told of which change, and what of it."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from psycopg import Connection

from tests.local.realtime_socket import Realtime, Socket

NOTES = {"event": "*", "schema": "live", "table": "notes"}
UNABLE = "Unable to subscribe to changes with given parameters."


@pytest.fixture
def notes(live: Connection) -> Connection:
    """A published table without row level security."""
    live.execute(
        "create table live.notes (id bigint primary key, owner uuid, body text, size numeric, done boolean);"
        "alter publication supabase_realtime add table live.notes"
    )
    return live


@pytest.fixture
def socket(realtime: Realtime) -> Iterator[Socket]:
    with realtime.socket() as socket:
        yield socket


def insert(connection: Connection, number: int, **values: Any) -> None:
    columns = {"id": number} | values
    connection.execute(
        f"insert into live.notes ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))})",
        list(columns.values()),
    )


class TestSubscribing:
    def test_the_reply_repeats_what_was_asked_for_with_an_id(self, notes: Connection, socket: Socket) -> None:
        entries = [NOTES, {"event": "INSERT", "schema": "live", "table": "notes", "filter": "id=eq.1", "extra": [1]}]
        reply = socket.join("changes", postgres_changes=entries)
        answered = reply["response"]["postgres_changes"]
        ids = [entry.pop("id") for entry in answered]
        assert answered == entries
        assert len({*ids}) == 2
        assert all(type(number) is int and number > 0 for number in ids)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"schema": "live", "table": "absent"}, f"{UNABLE} Please check Realtime is enabled for the given connect"),
            ({"schema": "nowhere"}, f"{UNABLE} Please check Realtime is enabled for the given connect parameters: "
             "[event: *, schema: nowhere, table: *, filters: [], select: nil]"),
            ({"event": "*"}, "No subscription params provided. Please provide at least a `schema` or `table`"),
            (NOTES | {"filter": "undefined"}, 'Error parsing `filter` params: ["undefined"]'),
            (NOTES | {"filter": "id=foo.1"}, 'Error parsing `filter` params: ["foo", "1"]'),
            (NOTES | {"filter": "id=eq.1,"}, "Error parsing `filter` params: filter must not contain empty segments"),
            (NOTES | {"filter": "id=in.1,2"}, "Error parsing `filter` params: `in` filter value must be wrapped"),
            (NOTES | {"filter": "absent=eq.1"}, f"{UNABLE} An exception happened so please check your connect"),
            (NOTES | {"filter": "id=eq.one"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "id=in.(1,two)"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": f"id=in.({','.join(map(str, range(101)))})"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "id=like.1%"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "body=is.maybe"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "body=is.true"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "body=match.("}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "body=like.a\\"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "body=like.\0"}, f"{UNABLE} An exception happened"),
            (NOTES | {"filter": "body=ilike.\ud800"}, f"{UNABLE} An exception happened"),
            (NOTES | {"table": "\ud800"}, f"{UNABLE} An exception happened"),
            (NOTES | {"select": ["absent"]}, f"{UNABLE} An exception happened"),
            (NOTES | {"select": "id,body"}, "Error parsing `select` params"),
            ({"schema": "live", "select": ["id"]}, "Column selection is not supported for wildcard subscriptions"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_subscribed_to_is_said_after_the_reply(
        self, notes: Connection, socket: Socket, entry: dict[str, Any], message: str
    ) -> None:
        assert socket.join("changes", postgres_changes=[entry])["status"] == "ok"
        payload = socket.next("system").payload
        assert payload["message"].startswith(message)
        assert payload | {"message": ""} == {
            "extension": "postgres_changes", "status": "error", "message": "", "channel": "changes",
        }  # fmt: skip
        insert(notes, 1)
        socket.quiet("postgres_changes", "phx_close")

    @pytest.mark.parametrize("condition", ["extra=eq.{}", "extra=in.({})"])
    def test_a_type_without_the_operator_cannot_be_filtered(
        self, notes: Connection, socket: Socket, condition: str
    ) -> None:
        notes.execute("alter table live.notes add column extra json")
        socket.join("changes", postgres_changes=[NOTES | {"filter": condition}])
        assert "operator does not exist" in socket.next("system").payload["message"]

    def test_one_bad_entry_spoils_the_others(self, notes: Connection, socket: Socket) -> None:
        socket.join("changes", postgres_changes=[NOTES, NOTES | {"table": "absent"}])
        assert socket.next("system").payload["status"] == "error"
        insert(notes, 1)
        socket.quiet("postgres_changes")

    def test_what_was_committed_before_is_not_told(self, notes: Connection, socket: Socket) -> None:
        insert(notes, 1)
        socket.subscribe(NOTES)
        insert(notes, 2)
        assert socket.change()["record"]["id"] == 2

    def test_leaving_and_being_closed_end_it(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        socket.push("realtime:changes", "phx_leave", {}, "j")
        socket.next("phx_close")
        insert(notes, 1)
        socket.quiet("postgres_changes")

    def test_without_a_configuration_the_topic_names_the_table(self, notes: Connection, realtime: Realtime) -> None:
        with realtime.socket(vsn="1.0.0") as socket:
            reply = socket.reply(socket.push("realtime:live:notes:id=eq.2", "phx_join", {}))
            (entry,) = reply["response"]["postgres_changes"]
            assert entry | {"id": 0} == {"schema": "live", "table": "notes", "filter": "id=eq.2", "id": 0}
            assert socket.next("system").payload["status"] == "ok"
            insert(notes, 1)
            insert(notes, 2)
            assert socket.next("INSERT").payload["record"]["id"] == 2


class TestPayloads:
    @pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
    def test_an_insert(self, notes: Connection, realtime: Realtime, vsn: str) -> None:
        with realtime.socket(vsn=vsn) as socket:
            (number,) = socket.subscribe(NOTES)
            insert(notes, 1, body="a \"quoted\" 'ü'", size="1.50")
            frame = socket.next("postgres_changes")
            data = frame.payload["data"]
            assert (frame.join_ref, frame.ref, frame.topic) == (None, None, "realtime:changes")
            assert frame.payload["ids"] == [number]
            stamp = data.pop("commit_timestamp")
            assert abs(time.time() - time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))) < 86_400
            assert len(stamp) == len("2026-01-01T00:00:00.000Z")
            assert stamp.endswith("Z")
            assert data == {
                "schema": "live",
                "table": "notes",
                "type": "INSERT",
                "columns": [
                    {"name": "id", "type": "int8"},
                    {"name": "owner", "type": "uuid"},
                    {"name": "body", "type": "text"},
                    {"name": "size", "type": "numeric"},
                    {"name": "done", "type": "bool"},
                ],
                "record": {"id": 1, "owner": None, "body": "a \"quoted\" 'ü'", "size": 1.50, "done": None},
                "errors": None,
            }

    def test_an_update_and_a_delete_name_the_old_row_by_its_key(self, notes: Connection, socket: Socket) -> None:
        insert(notes, 1, body="x")
        socket.subscribe(NOTES)
        notes.execute("update live.notes set body = 'y' where id = 1")
        data = socket.change()
        assert (data["type"], data["record"]["body"], data["old_record"]) == ("UPDATE", "y", {"id": 1})
        notes.execute("update live.notes set id = 2 where id = 1")
        data = socket.change()
        assert (data["record"]["id"], data["old_record"]) == (2, {"id": 1})
        notes.execute("delete from live.notes")
        data = socket.change()
        assert (data["type"], data["old_record"]) == ("DELETE", {"id": 2})
        assert "record" not in data

    def test_a_full_replica_identity_shows_the_old_row(self, notes: Connection, socket: Socket) -> None:
        notes.execute("alter table live.notes replica identity full")
        insert(notes, 1, body="x")
        socket.subscribe(NOTES)
        notes.execute("update live.notes set body = 'y'")
        assert socket.change()["old_record"]["body"] == "x"
        notes.execute("delete from live.notes")
        assert socket.change()["old_record"]["body"] == "y"

    def test_a_truncation_is_not_told(self, notes: Connection, socket: Socket) -> None:
        insert(notes, 1)
        socket.subscribe(NOTES)
        notes.execute("truncate live.notes")
        socket.quiet("postgres_changes")

    def test_values_of_many_types(self, live: Connection, socket: Socket) -> None:
        live.execute(
            """
            create type live.mood as enum ('good', 'it''s "bad"');
            create domain live.positive as integer check (value > 0);
            create table live.types (
                id uuid primary key, big bigint, money numeric(10, 2), nothing numeric, ratio float8, endless float8,
                at timestamptz, local timestamp, day date, span interval, raw bytea, js json, jsb jsonb, tags text[],
                mood live.mood, n live.positive, c char(5), v varchar(9), flag boolean, "odd ""name%s" inet,
                double integer generated always as (2 * n) stored
            );
            alter publication supabase_realtime add table live.types;
            """
        )
        socket.subscribe({"event": "INSERT", "schema": "live", "table": "types"})
        live.execute(
            """
            insert into live.types values (
                '00000000-0000-0000-0000-000000000001', 9007199254740993, 1.50, 'NaN', 0.1, 'Infinity',
                '2026-01-02 03:04:05.6+02', '2026-01-02 03:04:05', '2026-01-02', '1 day 2 hours', '\\xdeadbeef',
                '{"b": 1, "a": [null]}', '{"x": 1.10}', array['a,b', null], 'it''s "bad"', 7, 'ab', 'c%', true, '::1'
            )
            """
        )
        frame = socket.next("postgres_changes")
        columns = {column["name"]: column["type"] for column in frame.payload["data"]["columns"]}
        assert columns["tags"] == "_text"
        assert columns["mood"] == "mood"
        assert columns["c"] == "bpchar"
        record = frame.payload["data"]["record"]
        assert record.pop("double", None) is None  # not in the log
        assert record == {
            "id": "00000000-0000-0000-0000-000000000001",
            "big": 9007199254740993,
            "money": 1.50,
            "nothing": None,
            "ratio": 0.1,
            "endless": None,
            "at": "2026-01-02T01:04:05.6+00:00",
            "local": "2026-01-02T03:04:05",
            "day": "2026-01-02",
            "span": "1 day 02:00:00",
            "raw": "deadbeef",
            "js": {"b": 1, "a": [None]},
            "jsb": {"x": 1.10},
            "tags": ["a,b", None],
            "mood": 'it\'s "bad"',
            "n": 7,
            "c": "ab   ",
            "v": "c%",
            "flag": True,
            'odd "name%s': "::1",
        }

    def test_numbers_keep_their_digits(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        insert(notes, 1, size="1.50")
        time.sleep(0.3)
        assert '"size":1.50' in str(socket.connection.recv(5))

    def test_what_lies_in_toast_and_did_not_change_is_absent(self, notes: Connection, socket: Socket) -> None:
        notes.execute("alter table live.notes alter body set storage external")
        insert(notes, 1, body="x" * 10_000)
        socket.subscribe(NOTES)
        notes.execute("update live.notes set done = true")
        data = socket.change()
        assert "body" not in data["record"]
        assert data["record"]["done"] is True
        notes.execute("alter table live.notes replica identity full")
        notes.execute("update live.notes set done = false")
        assert socket.change()["record"]["body"] == "x" * 10_000

    def test_a_large_record_loses_its_large_values(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        insert(notes, 1, body="x" * 1_048_000)
        assert socket.change()["errors"] is None
        insert(notes, 2, body="x" * 1_048_576, size="1")
        data = socket.change()
        assert data["errors"] == ["Error 413: Payload Too Large"]
        assert data["record"] == {"id": 2, "owner": None, "size": 1, "done": None}

    def test_changes_come_in_the_order_of_their_commits(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        notes.execute("insert into live.notes (id) select generate_series(1, 500)")
        notes.execute("update live.notes set body = 'x' where id = 1")
        changes = [socket.change() for _ in range(501)]
        assert [change["record"]["id"] for change in changes] == [*range(1, 501), 1]

    def test_what_was_rolled_back_never_happened(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        with notes.transaction(force_rollback=True):
            insert(notes, 1)
        insert(notes, 2)
        assert socket.change()["record"]["id"] == 2

    def test_one_message_names_every_entry_that_matches(self, notes: Connection, socket: Socket) -> None:
        every, first, second = socket.subscribe(NOTES, NOTES | {"filter": "id=eq.1"}, NOTES | {"filter": "id=eq.2"})
        insert(notes, 1)
        assert sorted(socket.next("postgres_changes").payload["ids"]) == sorted([every, first])
        insert(notes, 2)
        assert sorted(socket.next("postgres_changes").payload["ids"]) == sorted([every, second])

    def test_a_selection_names_the_columns_beside_the_key(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES | {"select": ["body"]})
        insert(notes, 1, body="x", size=1)
        data = socket.change()
        assert data["record"] == {"id": 1, "body": "x"}
        assert [column["name"] for column in data["columns"]] == ["id", "body"]


class TestMatching:
    @pytest.mark.parametrize("event", ["INSERT", "UPDATE", "DELETE", "insert"])
    def test_events(self, notes: Connection, socket: Socket, event: str) -> None:
        socket.subscribe(NOTES | {"event": event})
        insert(notes, 1)
        notes.execute("update live.notes set done = true")
        notes.execute("delete from live.notes")
        assert socket.change()["type"] == event.upper()
        socket.quiet("postgres_changes")

    @pytest.mark.parametrize("entry", [{"schema": "live"}, {"schema": "*", "table": "*"}, {"schema": "*"}])
    def test_wildcards(self, notes: Connection, socket: Socket, entry: dict[str, str]) -> None:
        notes.execute("create table live.more (id int primary key)")
        socket.subscribe(entry)
        insert(notes, 1)
        notes.execute("insert into live.more values (1)")  # not published
        assert socket.change()["table"] == "notes"
        notes.execute("alter publication supabase_realtime add table live.more")
        notes.execute("insert into live.more values (2)")
        assert socket.change()["table"] == "more"
        socket.quiet("postgres_changes")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("id=eq.2", [2]),
            ("id=neq.2", [1, 3, 4]),
            ("id=lt.2", [1]),
            ("id=lte.2", [1, 2]),
            ("id=gt.2", [3, 4]),
            ("id=gte.3", [3, 4]),
            ("id=in.(1,3)", [1, 3]),
            ("id=not.in.(1,3)", [2, 4]),
            ("body=in.(alpha,\"be,ta\")", [1, 2]),
            ("body=like.%a", [1, 2]),
            ("body=ilike.%A", [1, 2, 3]),
            ("body=not.like.al%", [2, 3]),
            ("body=match.^a", [1]),
            ("body=imatch.^G", [3]),
            ("body=not.match.^a", [2, 3]),
            ("body=is.null", [4]),
            ("body=not.is.null", [1, 2, 3]),
            ("body=isdistinct.alpha", [2, 3, 4]),
            ("body=not.isdistinct.alpha", [1]),
            ("done=is.true", [1]),
            ("done=is.false", [2]),
            ("done=is.unknown", [3, 4]),
            ("done=not.is.true", [2, 3, 4]),
            ("size=eq.1.50", [1]),
            ("size=gt.1.5", [2]),
            ("id=gt.1,id=lt.4,body=not.is.null", [2, 3]),
            ("body=eq.\"be,ta\"", [2]),
            ("body=eq.be,ta", None),
            (" id=eq.1 , body=eq.alpha ", [1]),
            ("", [1, 2, 3, 4]),
            ("owner=eq.00000000-0000-0000-0000-000000000001", [1]),
        ],
    )  # fmt: skip
    def test_filters(self, notes: Connection, socket: Socket, text: str, expected: list[int] | None) -> None:
        entry = NOTES | {"event": "INSERT", "filter": text}
        if expected is None:
            socket.join("changes", postgres_changes=[entry])
            assert socket.next("system").payload["status"] == "error"
            return
        socket.subscribe(entry)
        owner = "00000000-0000-0000-0000-000000000001"
        with notes.transaction():
            insert(notes, 1, body="alpha", size="1.5", done=True, owner=owner)
            insert(notes, 2, body="be,ta", size="2", done=False)
            insert(notes, 3, body="GammA")
            insert(notes, 4)
        assert [socket.change()["record"]["id"] for _ in expected] == expected
        socket.quiet("postgres_changes", seconds=0.2)

    def test_a_filter_that_fails_takes_nothing_from_others(
        self, notes: Connection, realtime: Realtime, socket: Socket
    ) -> None:
        with realtime.socket() as other:
            other.subscribe(NOTES | {"filter": "body=eq.none"})
            socket.subscribe(NOTES | {"filter": "body=eq.1"})
            notes.execute("alter table live.notes alter body type integer using body::integer")
            insert(notes, 1, body=1)
            assert socket.change()["record"]["body"] == 1
            other.quiet("postgres_changes")

    def test_filters_may_be_many(self, notes: Connection, socket: Socket) -> None:
        ids = socket.subscribe(*[NOTES | {"filter": f"id=eq.{number}"} for number in range(1700)])
        insert(notes, 1699)
        assert socket.next("postgres_changes").payload["ids"] == ids[1699:]

    def test_a_delete_is_filtered_by_what_is_known_of_it(self, notes: Connection, socket: Socket) -> None:
        insert(notes, 1, body="x")
        insert(notes, 2, body="x")
        insert(notes, 3, body="x")
        by_key, by_body = socket.subscribe(NOTES | {"filter": "id=lte.2"}, NOTES | {"filter": "body=eq.x"})
        notes.execute("delete from live.notes where id = 1")
        assert socket.next("postgres_changes").payload["ids"] == [by_key]
        notes.execute("alter table live.notes replica identity full")
        notes.execute("delete from live.notes where id = 2")
        assert sorted(socket.next("postgres_changes").payload["ids"]) == sorted([by_key, by_body])

    def test_membership_in_the_publication_counts_while_running(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        notes.execute("alter publication supabase_realtime drop table live.notes")
        insert(notes, 1)
        socket.quiet("postgres_changes")
        notes.execute("alter publication supabase_realtime add table live.notes")
        insert(notes, 2)
        assert socket.change()["record"]["id"] == 2

    def test_a_table_that_changes_while_subscribed(self, notes: Connection, socket: Socket) -> None:
        socket.subscribe(NOTES)
        notes.execute("alter table live.notes add column colour text default 'red', drop column size")
        insert(notes, 1)
        data = socket.change()
        assert data["record"]["colour"] == "red"
        assert "size" not in data["record"]


class TestAccess:
    @pytest.fixture(autouse=True)
    def guarded(self, notes: Connection) -> None:
        notes.execute(
            "alter table live.notes enable row level security;"
            "create policy own on live.notes for select to authenticated"
            " using (owner = (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid)"
        )

    def test_policies_decide_who_sees_a_row(self, notes: Connection, realtime: Realtime, socket: Socket) -> None:
        me, other = str(uuid4()), str(uuid4())
        mine = socket.subscribe(NOTES, token=realtime.token(sub=me), topic="mine")
        socket.subscribe(NOTES, token=realtime.token(sub=other), topic="theirs")
        socket.subscribe(NOTES, token=realtime.token(role="anon"), topic="nobody's")
        socket.subscribe(NOTES, token=realtime.token(role="service_role"), topic="all")
        insert(notes, 1, owner=me)
        told = {socket.next("postgres_changes").topic for _ in range(2)}
        assert told == {"realtime:mine", "realtime:all"}
        notes.execute("update live.notes set owner = %s", (other,))
        told = {socket.next("postgres_changes").topic for _ in range(2)}
        assert told == {"realtime:theirs", "realtime:all"}
        socket.quiet("postgres_changes")
        assert len(mine) == 1

    def test_of_a_deleted_row_everybody_learns_the_key_and_nothing_else(
        self, notes: Connection, realtime: Realtime, socket: Socket
    ) -> None:
        notes.execute("alter table live.notes replica identity full")
        insert(notes, 1, owner=uuid4(), body="secret")
        socket.subscribe(NOTES, token=realtime.token(sub=str(uuid4())))
        notes.execute("delete from live.notes")
        data = socket.change()
        assert (data["type"], data["old_record"]) == ("DELETE", {"id": 1})

    def test_a_row_that_is_gone_by_then_is_seen_by_nobody(self, notes: Connection, realtime: Realtime) -> None:
        with realtime.socket(realtime.stack.state.secret_key) as socket:
            socket.subscribe(NOTES | {"event": "INSERT"})
            with notes.transaction():
                insert(notes, 1)
                notes.execute("delete from live.notes")
            socket.quiet("postgres_changes")

    def test_a_policy_that_fails_shows_nothing_and_stops_nobody_else(
        self, notes: Connection, realtime: Realtime, socket: Socket
    ) -> None:
        notes.execute("create policy broken on live.notes for select to anon using (1 / (id - 1) > 0)")
        socket.subscribe(NOTES, token=realtime.token(role="anon"), topic="broken")
        socket.subscribe(NOTES, token=realtime.token(role="service_role"), topic="all")
        insert(notes, 1)
        assert socket.next("postgres_changes").topic == "realtime:all"
        socket.quiet("postgres_changes")

    def test_columns_that_the_role_may_not_read_are_left_out(
        self, notes: Connection, realtime: Realtime, socket: Socket
    ) -> None:
        me = str(uuid4())
        notes.execute(
            "revoke select on live.notes from authenticated; grant select (id, owner) on live.notes to authenticated"
        )
        socket.subscribe(NOTES, token=realtime.token(sub=me))
        insert(notes, 1, owner=me, body="hidden")
        data = socket.change()
        assert data["record"] == {"id": 1, "owner": me}
        assert [column["name"] for column in data["columns"]] == ["id", "owner"]
        socket.join("filtered", realtime.token(sub=me), postgres_changes=[NOTES | {"filter": "body=eq.x"}])
        assert "invalid column for filter body" in socket.next("system").payload["message"]

    def test_without_the_right_to_read_the_key_there_is_only_an_error(
        self, notes: Connection, realtime: Realtime, socket: Socket
    ) -> None:
        notes.execute(
            "revoke select on live.notes from authenticated; grant select (body) on live.notes to authenticated"
        )
        (number,) = socket.subscribe(NOTES, token=realtime.token(sub=str(uuid4())))
        insert(notes, 1, body="x")
        assert socket.next("postgres_changes").payload == {
            "ids": [number],
            "data": {
                "schema": "live", "table": "notes", "type": "INSERT", "commit_timestamp": None,
                "columns": [], "record": {}, "errors": ["Error 401: Unauthorized"],
            },
        }  # fmt: skip

    def test_without_a_primary_key_there_is_only_an_error(self, live: Connection, socket: Socket) -> None:
        live.execute("create table live.heap (a int); alter publication supabase_realtime add table live.heap")
        socket.subscribe({"event": "*", "schema": "live", "table": "heap"})
        live.execute("insert into live.heap values (1)")
        assert socket.change()["errors"] == ["Error 400: Bad Request, no primary key"]

    def test_a_new_token_brings_its_own_view(self, notes: Connection, realtime: Realtime, socket: Socket) -> None:
        me = str(uuid4())
        socket.subscribe(NOTES, token=realtime.token(role="anon"))
        socket.push("realtime:changes", "access_token", {"access_token": realtime.token(sub=me)})
        assert socket.next("system").payload["message"] == "Subscribed to PostgreSQL"
        insert(notes, 1, owner=me)
        assert socket.change()["record"]["owner"] == me

    def test_rights_that_ended_while_a_change_was_judged_count_no_more(
        self, notes: Connection, realtime: Realtime, socket: Socket
    ) -> None:
        notes.execute("create policy slow on live.notes for select to authenticated using (pg_sleep(1) is not null)")
        notes.execute("create policy none on live.notes for select to anon using (false)")
        socket.subscribe(NOTES, token=realtime.token())
        insert(notes, 1)
        time.sleep(0.5)
        socket.subscribe(NOTES, token=realtime.token(role="anon"))
        socket.quiet("postgres_changes", seconds=1.5)

    def test_a_role_that_is_not_there_cannot_subscribe(self, realtime: Realtime, socket: Socket) -> None:
        socket.join("changes", realtime.token(role="nobody"), postgres_changes=[NOTES])
        assert 'role "nobody" does not exist' in socket.next("system").payload["message"]
