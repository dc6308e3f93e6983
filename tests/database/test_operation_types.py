"""Kinds of operations as rows: what a sound row is, options and prices by it, and the bounds of a day."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ValidationError

from services.images.engines import Engine, engine_paths, load_engine
from tests.database.personas import UNKNOWN, Connection, People, Person, Row, refused

UUID_TEXT = "7f9c24e8-3b12-4fef-91e0-5a3a7d1f2b6c"
ENGINES = cast("list[type[Engine]]", [load_engine(path) for path in engine_paths()])
SKETCH: Row = {
    "name": "sketch",
    "title": "Sketch",
    "description": "Draws over it.",
    "activity": "Sketching",
    "result_title": "Sketched {pencil}",
    "works_on": "image",
    "credits": 3,
    "options": [
        {"name": "input", "label": "Works on", "type": "operation", "default": None},
        {
            "name": "pencil",
            "label": "Pencil",
            "type": "choice",
            "choices": ["hard", "soft"],
            "words": ["Hard", "Soft"],
            "default": "soft",
        },
        {"name": "strokes", "label": "Strokes", "type": "integer", "minimum": -3, "maximum": 40, "default": 8},
        {"name": "paper", "label": "With its paper", "type": "boolean", "default": False},
    ],
    "surcharges": {"pencil": {"hard": 2}, "paper": {"true": 1}},
}


def insert(db: Connection, **changes: Any) -> None:
    """Make the kind `sketch`, with changes."""
    row = SKETCH | changes
    columns = ", ".join(row)
    values = [Jsonb(value) if isinstance(value, list | dict) else value for value in row.values()]
    db.execute(f"insert into public.operation_types ({columns}) values ({', '.join(['%s'] * len(row))})", values)


def quote(db: Connection, kind: str, options: object) -> int:
    """What a request would cost."""
    row = db.execute("select public.quote_image_operation(%s, %s) as credits", (kind, Jsonb(options))).fetchone()
    assert row is not None
    credits: int = row["credits"]
    return credits


# ---- Rows and engines


def test_every_engine_has_a_row_and_every_row_that_came_with_a_migration_an_engine(db: Connection) -> None:
    rows = db.execute("select name from public.operation_types where is_builtin").fetchall()
    assert {row["name"] for row in rows} == {engine.operation_type for engine in ENGINES}


def values(rule: Row) -> Iterator[tuple[object, bool]]:
    """Values of an option inside, at and beyond each bound of its rule, with whether they are allowed."""
    is_nullable = "default" in rule and rule["default"] is None
    yield None, is_nullable
    yield from (([], False), ({}, False), ([rule.get("default")], False))
    if "default" in rule:
        yield rule["default"], True
    match rule["type"]:
        case "choice":
            for choice in rule["choices"]:
                yield choice, True
                yield (str(choice) if isinstance(choice, int) else choice.upper()), False
                yield f"{choice} ", False
            if all(isinstance(choice, int) for choice in rule["choices"]):
                yield float(rule["choices"][0]), True
                yield max(rule["choices"]) + 1, False
            yield from ((True, False), ("", False))
        case "integer" | "number":
            low, high = rule["minimum"], rule["maximum"]
            step = 1 if rule["type"] == "integer" else 0.001
            yield from ((low, True), (high, True), (low - step, False), (high + step, False))
            middle = (low + high) / 2 + 0.25
            yield middle, rule["type"] == "number"
            yield float(low), rule["type"] == "number"
            yield from ((-high, -high >= low), (10**20, False), (1e300, False), (str(high), False), (True, False))
        case "text":
            most = rule["maximum"]
            yield from (("x", True), ("é" * most, True), (f" {'😀' * most}\u3000", True), ("  x\n", True))
            yield from (("x" * (most + 1), False), ("", False), ("  \t\n\u00a0\u2003", False), (5, False))
        case "color":
            yield from (("#00ff7F", True), ("#ABCDEF", True))
            yield from (("red", False), ("#fff", False), ("#00ff7f\n", False), ("#00ff7g", False), (5, False))
        case "boolean":
            yield from ((True, True), (False, True), (1, False), ("true", False))
        case "operation" | "collection":
            yield from ((UUID_TEXT, True), (UUID_TEXT.upper(), True))
            yield from (("x", False), (5, False), (f"{UUID_TEXT}0", False), (f"{UUID_TEXT}\n", False))
        case kind:
            raise ValueError(f"no values are drawn for options of the type {kind}")


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_the_database_and_the_engines_accept_the_same_options(db: Connection, engine: type[Engine]) -> None:
    row = db.execute("select * from public.operation_types where name = %s", (engine.operation_type,)).fetchone()
    assert row is not None
    sound: Row = {}
    for rule in row["options"]:
        if "default" not in rule:
            sound[rule["name"]] = next(value for value, is_good in values(rule) if is_good)
    cases = [(sound, True), (sound | {"nothing_like_it": 1}, False)]
    cases += [({name: value for name, value in sound.items() if name != missing}, False) for missing in sound]
    for rule in row["options"]:
        cases += [(sound | {rule["name"]: value}, is_good) for value, is_good in values(rule)]
    for options, is_good in cases:
        try:
            cast("type[BaseModel]", engine.options_model).model_validate(options)
            engine_accepts = True
        except ValidationError:
            engine_accepts = False
        try:
            quote(db, row["name"], options)
            database_accepts = True
        except psycopg.Error as error:
            assert error.diag.sqlstate == "PT400", options
            database_accepts = False
        assert (database_accepts, engine_accepts) == (is_good, is_good), options


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_what_is_left_out_has_the_same_default(db: Connection, engine: type[Engine]) -> None:
    row = db.execute("select options from public.operation_types where name = %s", (engine.operation_type,)).fetchone()
    assert row is not None
    fields = cast("type[BaseModel]", engine.options_model).model_fields
    assert sorted(rule["name"] for rule in row["options"]) == sorted(fields)
    for rule in row["options"]:
        field = fields[rule["name"]]
        assert field.is_required() == ("default" not in rule), rule
        if "default" in rule:
            assert field.default == rule["default"], rule


# ---- Soundness


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"name": "Sketch"}, "The name must be"),
        ({"title": ""}, "title and activity"),
        ({"works_on": "sound"}, "works_on must be"),
        ({"credits": -1}, "credits must be"),
        ({"daily_failures": 0}, "daily bounds"),
        ({"options": {}}, "options must be an array"),
        ({"options": [5]}, "it is no object"),
        ({"options": [{"name": "a b", "label": "x", "type": "color"}]}, "its name must be"),
        ({"options": [{"name": "a", "label": "x", "type": "date"}]}, "its type must be"),
        ({"options": [{"name": "a", "type": "color"}]}, "it has no label"),
        ({"options": [{"name": "a", "label": 5, "type": "color"}]}, "its label must be"),
        ({"options": [{"name": "a", "label": "x", "type": "color", "minimum": 1}]}, "minimum is nothing"),
        ({"options": [{"name": "a", "label": "x", "type": "choice", "choices": [], "words": []}]}, "choices"),
        ({"options": [{"name": "a", "label": "x", "type": "choice", "choices": [True], "words": ["x"]}]}, "choices"),
        ({"options": [{"name": "a", "label": "x", "type": "choice", "choices": ["x"], "words": []}]}, "words"),
        ({"options": [{"name": "a", "label": "x", "type": "integer", "minimum": 5, "maximum": 1}]}, "minimum"),
        ({"options": [{"name": "a", "label": "x", "type": "number", "minimum": 0}]}, "minimum"),
        ({"options": [{"name": "a", "label": "x", "type": "text", "maximum": 0}]}, "maximum must be"),
        ({"options": [{"name": "a", "label": "x", "type": "color", "default": "red"}]}, "its default must be"),
        ({"options": [{"name": "source", "label": "x", "type": "operation"}]}, "called input"),
        ({"options": [{"name": "collection_id", "label": "x", "type": "collection"}]}, "has no collection"),
        ({"works_on": "collection", "options": []}, "has the option collection_id"),
        ({"options": [{"name": "a", "label": "x", "type": "color"}] * 2}, "the same name"),
        ({"surcharges": []}, "surcharges must be"),
        ({"surcharges": {"speed": {"fast": 1}}}, "The surcharges of speed"),
        ({"surcharges": {"pencil": {"hard": -1}}}, "The surcharges of pencil"),
        ({"surcharges": {"pencil": 1}}, "The surcharges of pencil"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_an_unsound_row_is_refused_and_says_what_is_wrong(db: Connection, changes: Row, flaw: str) -> None:
    with db.transaction(force_rollback=True):
        insert(db)
        db.execute("delete from public.operation_types where name = 'sketch'")
        with refused("PT400", flaw), db.transaction():
            insert(db, **changes)


def test_rows_of_a_migration_stay_and_so_does_the_history_of_others(people: People, db: Connection) -> None:
    admin, user = people.new(is_admin=True), people.new(credits=9)
    with refused("PT409", "The kind vectorize stays"):
        admin.sql("delete from public.operation_types where name = 'vectorize'")
    with db.transaction(force_rollback=True):
        insert(db)
        ask(user, "sketch", people.image(user))
        with refused("23503"), db.transaction():
            admin.sql("delete from public.operation_types where name = 'sketch'")
        admin.sql("update public.operation_types set is_active = false where name = 'sketch'")
        assert user.sql("select operation_type from public.image_operations") == [{"operation_type": "sketch"}]
        with refused("PT409", "not offered"):
            quote(db, "sketch", {})


def test_nobody_but_an_admin_writes_rows_and_an_admin_not_all_of_a_row(people: People) -> None:
    admin, user = people.new(is_admin=True), people.new()
    assert user.sql("update public.operation_types set credits = 0 returning name") == []
    with refused("42501"):
        admin.sql("update public.operation_types set is_builtin = false where name = 'vectorize'")
    with refused("42501"):
        admin.sql("update public.operation_types set name = 'trace' where name = 'vectorize'")


# ---- Prices


@pytest.mark.parametrize(
    ("options", "credits"),
    [({}, 3), ({"pencil": "hard"}, 5), ({"paper": True}, 4), ({"pencil": "hard", "paper": True, "strokes": -3}, 6)],
    ids=str,
)
def test_a_request_costs_what_was_quoted(people: People, db: Connection, options: Row, credits: int) -> None:
    user = people.new(credits=9)
    with db.transaction(force_rollback=True):
        insert(db)
        assert quote(db, "sketch", options) == credits
        assert ask(user, "sketch", people.image(user), **options)["credits_used"] == credits
        assert people.balance(user) == 9 - credits


def test_a_default_has_its_surcharge_too(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        insert(db, surcharges={"pencil": {"soft": 7}})
        assert (quote(db, "sketch", {}), quote(db, "sketch", {"pencil": "hard"})) == (10, 3)


@pytest.mark.parametrize(
    ("kind", "options", "sqlstate"),
    [("sharpen", {}, "PT400"), (None, {}, "PT400"), ("upscale", [], "PT400"), ("upscale", {"x": "y" * 9000}, "PT413")],
)
def test_a_bad_quote_is_refused(db: Connection, kind: str, options: object, sqlstate: str) -> None:
    with refused(sqlstate) as caught:
        quote(db, kind, options)
    if kind in ("sharpen", None):
        assert caught.value.diag.message_hint == (
            "Pass one of these: upscale, background_removal, vectorize, generate, print_ready."
        )


# ---- What they work on


def ask(user: Person, kind: str, image: UUID | None, **options: Any) -> Row:
    """Request an operation."""
    row: Row = user.call("request_image_operation", p_image_id=image, p_operation_type=kind, p_options=options)
    return row


def test_a_kind_that_works_on_a_collection_makes_an_image_of_it(people: People, db: Connection) -> None:
    user, stranger = people.new(credits=9), people.new(credits=9)
    collection: UUID = user.sql("insert into public.image_collections (name) values ('Team shirts') returning id")[0][
        "id"
    ]
    rule = {"name": "collection_id", "label": "Collection", "type": "collection"}
    with db.transaction(force_rollback=True):
        insert(db, works_on="collection", options=[rule], surcharges={})
        with refused("PT400", '"collection_id" is missing'), db.transaction():
            ask(user, "sketch", None)
        operation = ask(user, "sketch", None, collection_id=str(collection))
        (image,) = user.sql("select id, original_filename from public.images")
        assert (operation["image_id"], image["original_filename"]) == (image["id"], "Team shirts.png")
        assert operation["input_data"]["url"] is None
        again = ask(user, "sketch", image["id"], collection_id=str(collection))
        assert again["image_id"] == image["id"]
        own = people.image(stranger)
        for unknown in (collection, UNKNOWN):
            for target in (None, own):
                with refused("PT404", "Collection not found"), db.transaction():
                    ask(stranger, "sketch", target, collection_id=str(unknown))
        assert people.balance(stranger) == 9


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "a number from 0.1 to 1524"),
        ({"size": 0}, "a number from 0.1 to 1524"),
        ({"size": 10, "side": "both"}, '"width" or "height"'),
        ({"width": 10, "height": 4, "size": 10}, "Known options: input, size, unit, side"),
    ],
    ids=["no size", "a size of 0", "both sides", "both sides by name"],
)
def test_a_print_without_one_size_is_refused_with_what_to_do_and_costs_nothing(
    people: People, options: Row, advice: str
) -> None:
    user = people.new(credits=3)
    with refused("PT400") as caught:
        ask(user, "print_ready", people.image(user), **options)
    assert advice in caught.value.diag.message_hint
    assert people.balance(user) == 3


def test_a_print_of_a_strangers_picture_is_refused_and_costs_nothing(people: People) -> None:
    user, stranger = people.new(credits=3), people.new()
    with refused("PT404", "Image not found"):
        ask(user, "print_ready", people.image(stranger), size=10)
    assert people.balance(user) == 3


# ---- The bounds of a day


def end(people: People, how: str, db: Connection) -> None:
    """A worker takes the waiting operation and fails it for good."""
    (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
    people.service.call(
        "fail_image_operation", p_operation_id=job["id"], p_lease_token=job["lease_token"],
        p_error_message=how, p_retryable=False,
    )  # fmt: skip


def yesterday(db: Connection, user: Person) -> None:
    """Let a day go by for an account."""
    db.execute("reset role")  # within one transaction the last person's stays
    db.execute("update private.operation_counts set since = since - interval '1 day' where user_id = %s", (user.id,))


def assert_says_when(caught: Any) -> None:
    """The refusal says how many, and when it goes on."""
    detail = json.loads(caught.value.diag.message_detail)
    assert set(detail) == {"limit", "resets_at"}
    assert "It goes on at " in caught.value.diag.message_hint


def set_bound(db: Connection, column: str, value: int, kind: str = "upscale") -> None:
    """An operator sets a bound."""
    db.execute(f"update public.operation_types set {column} = %s where name = %s", (value, kind))


@pytest.mark.usefixtures("empty_queue")
def test_failed_work_of_any_kind_is_bounded_each_day(people: People, db: Connection) -> None:
    user, other = people.new(credits=9), people.new(credits=9)
    with db.transaction(force_rollback=True):
        set_bound(db, "daily_failures", 3)
        for _ in range(3):
            image = people.image(user)
            ask(user, "upscale", image)
            end(people, "It is no picture.", db)
            user.sql("delete from public.images where id = %s", image)  # the count stays
        with refused("PT429", "3 of your operations of this kind failed today") as caught, db.transaction():
            ask(user, "upscale", people.image(user))
        assert_says_when(caught)
        ask(other, "upscale", people.image(other))
        ask(user, "vectorize", people.image(user))
        yesterday(db, user)
        ask(user, "upscale", people.image(user))
        assert people.balance(user) == 9 - 2 - 1


@pytest.mark.usefixtures("empty_queue")
def test_cycles_of_request_and_cancellation_are_bounded_each_day(people: People, db: Connection) -> None:
    user = people.new(credits=9)
    image = people.image(user)
    with db.transaction(force_rollback=True):
        set_bound(db, "daily_cancellations", 3)
        for _ in range(3):
            user.call("cancel_image_operation", p_operation_id=ask(user, "upscale", image)["id"])
        waiting = ask(user, "upscale", image)["id"]
        with refused("PT429", "cancelled 3 operations of this kind today") as caught, db.transaction():
            user.call("cancel_image_operation", p_operation_id=waiting)
        assert_says_when(caught)
        assert people.balance(user) == 8
        # What an admin cancels is not the owner's doing.
        people.service.call("admin_cancel_image_operation", p_operation_id=waiting, p_reason="Asked for it")
        yesterday(db, user)
        user.call("cancel_image_operation", p_operation_id=ask(user, "upscale", image)["id"])
        assert people.balance(user) == 9


@pytest.mark.usefixtures("empty_queue")
def test_requests_of_a_kind_that_costs_nothing_are_bounded_each_day(people: People, db: Connection) -> None:
    user = people.new(credits=9)
    with db.transaction(force_rollback=True):
        insert(db, credits=0, surcharges={}, daily_requests=2)
        for _ in range(2):
            ask(user, "sketch", people.image(user))
        with refused("PT429", "requested 2 operations of this kind today") as caught, db.transaction():
            ask(user, "sketch", people.image(user))
        assert_says_when(caught)
        yesterday(db, user)
        ask(user, "sketch", people.image(user))


@pytest.mark.usefixtures("empty_queue")
def test_every_kind_that_may_cost_money_has_the_bound_of_failed_calls(people: People, db: Connection) -> None:
    user = people.new(credits=9)
    call = {"api_provider": "somebody", "status_code": 500, "error_message": "No.", "cost": 0.1}
    with db.transaction(force_rollback=True):
        insert(db, may_cost_money=True, daily_failures=4)
        ask(user, "sketch", people.image(user))
        (job,) = people.service.rows("claim_image_operations", p_worker_id="test")
        people.service.call(
            "fail_image_operation", p_operation_id=job["id"], p_lease_token=job["lease_token"],
            p_error_message="No.", p_retryable=False, p_usage=[call] * 4,
        )  # fmt: skip
        with refused("PT429", "4 of your pictures failed today") as caught, db.transaction():
            ask(user, "sketch", people.image(user))
        assert_says_when(caught)


def test_the_rows_are_read_by_everybody_with_what_a_page_needs(people: People) -> None:
    anonymous = Person(people.connection, "anon")
    columns = "name, title, description, result_title, works_on, options, credits, surcharges"
    rows: Sequence[Row] = anonymous.sql(f"select {columns} from public.operation_types order by sort_order")
    assert [row["title"] for row in rows] == ["Enlarge", "Remove background", "Vectorize", "Lettering", "Print file"]
    assert all(rule["label"] for row in rows for rule in row["options"])
