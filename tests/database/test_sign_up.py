"""What happens in the project when Auth makes or changes an account."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.database.personas import Connection, People, refused


def _sign_up(db: Connection, email: str | None, metadata: str = "{}") -> str:
    user_id = str(uuid4())
    db.execute("insert into auth.users (id, email, raw_user_meta_data) values (%s, %s, %s)", (user_id, email, metadata))
    return user_id


def test_a_sign_up_makes_a_profile_with_its_names(db: Connection) -> None:
    email = f"{uuid4()}@example.test"
    with db.transaction(force_rollback=True):
        user_id = _sign_up(db, email, '{"first_name": " Ada ", "last_name": "", "is_admin": true, "credits": 99}')
        (profile,) = db.execute("select * from public.profiles where id = %s", (user_id,)).fetchall()
    assert (profile["email"], profile["first_name"], profile["last_name"]) == (email, "Ada", None)
    assert (profile["is_admin"], profile["is_active"], profile["subscription_status"]) == (False, True, "free")
    assert profile["credits_remaining"] == 2


def test_an_account_without_an_address_gets_one_that_receives_no_mail(db: Connection) -> None:
    with db.transaction(force_rollback=True):
        user_id = _sign_up(db, None)
        (profile,) = db.execute("select email from public.profiles where id = %s", (user_id,)).fetchall()
    assert profile["email"] == f"{user_id}@no-email.invalid"


def test_a_changed_address_reaches_the_profile_and_frees_the_old_one(people: People, db: Connection) -> None:
    user = people.new()
    new_email = f"{uuid4()}@example.test"
    db.execute("update auth.users set email = %s where id = %s", (new_email, user.id))
    assert user.sql("select email from public.profiles") == [{"email": new_email}]
    with db.transaction(force_rollback=True):
        _sign_up(db, user.email)


def test_accounts_older_than_the_project_get_their_profile_and_credits_once(people: People, db: Connection) -> None:
    older, other = people.new(), people.new()
    phone_only = _sign_up(db, None)
    db.execute("delete from public.profiles where id = any(%s::uuid[])", ([str(older.id), phone_only],))
    counts = [db.execute("select private.create_missing_profiles() as made").fetchall()[0]["made"] for _ in range(2)]
    assert counts == [2, 0]
    assert older.sql("select email from public.profiles") == [{"email": older.email}]
    assert [(entry["transaction_type"], entry["amount"]) for entry in people.ledger(older)] == [("bonus", 2)]
    assert people.balance(other) == 2
    assert people.service.rows("verify_ledger") == []
    db.execute("delete from auth.users where id = %s", (phone_only,))


def test_a_second_account_on_an_address_is_refused_with_the_reason(people: People, db: Connection) -> None:
    # Auth allows it to single sign-on accounts; the local Auth may hold its own unique index against it.
    user, second = people.new(), people.new()
    db.execute("update public.profiles set email = %s where id = %s", (f"{uuid4()}@example.test", second.id))
    with db.transaction(force_rollback=True):
        db.execute("delete from public.profiles where id = %s", (second.id,))
        with refused("PT409", "Another account already uses the e-mail address"), db.transaction():
            db.execute("select private.create_profile(%s, %s, null)", (second.id, user.email))
        db.execute("update public.profiles set email = 'taken@example.test' where id = %s", (user.id,))
        with refused("PT409", "Another account already uses the e-mail address"), db.transaction():
            _sign_up(db, "taken@example.test")
    with refused("PT409", "Another account already uses the e-mail address"), db.transaction():
        db.execute("update public.profiles set email = 'taken@example.test' where id = %s", (user.id,))
        db.execute("update auth.users set email = 'taken@example.test' where id = %s", (second.id,))


def test_a_profile_goes_with_its_account(people: People, db: Connection) -> None:
    user = people.new()
    db.execute("delete from auth.users where id = %s", (user.id,))
    assert db.execute("select 1 from public.profiles where id = %s", (user.id,)).fetchall() == []


def test_a_trigger_of_sign_up_that_is_missing_is_named(people: People, admin: Connection) -> None:
    assert people.service.rows("missing_triggers") == []
    with admin.transaction(force_rollback=True):
        admin.execute("drop trigger handle_new_user on auth.users")
        missing = admin.execute("select * from public.missing_triggers() as name").fetchall()
    assert missing == [{"name": "handle_new_user"}]


def test_free_credits_come_once_for_an_address(people: People, db: Connection) -> None:
    address = f"Back-{uuid4()}@example.test"
    for balance in (2, 0, 0):
        user_id = _sign_up(db, address)
        (profile,) = db.execute(
            "select credits_remaining as n from public.profiles where id = %s", (user_id,)
        ).fetchall()
        assert profile["n"] == balance
        assert people.service.rows("verify_ledger") == []
        db.execute("delete from auth.users where id = %s", (user_id,))
    # Nor does it help to leave under another address.
    for balance in (2, 0):
        first = f"First-{address}" if balance else f"first-{address}"
        user_id = _sign_up(db, first)
        (profile,) = db.execute(
            "select credits_remaining as n from public.profiles where id = %s", (user_id,)
        ).fetchall()
        assert profile["n"] == balance
        db.execute("update auth.users set email = %s where id = %s", (f"second-{address}", user_id))
        db.execute("delete from auth.users where id = %s", (user_id,))
    kept = db.execute("select * from private.former_addresses").fetchall()
    assert kept
    assert "back-" not in str(kept).lower()

    db.execute("update private.former_addresses set closed_at = now() - interval '400 days'")
    while people.service.call("prune_logs", p_before=datetime.now(UTC) - timedelta(days=399)):
        pass
    user_id = _sign_up(db, address.lower())
    (profile,) = db.execute("select credits_remaining as n from public.profiles where id = %s", (user_id,)).fetchall()
    assert profile["n"] == 2
