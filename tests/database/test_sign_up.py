"""What happens in the project when Auth makes or changes an account."""

from uuid import uuid4

from tests.database.personas import Connection, People


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


def test_a_profile_goes_with_its_account(people: People, db: Connection) -> None:
    user = people.new()
    db.execute("delete from auth.users where id = %s", (user.id,))
    assert db.execute("select 1 from public.profiles where id = %s", (user.id,)).fetchall() == []
