"""What a signed-in user tries with the official client and his own token, and must not get."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from postgrest import APIError
from psycopg.types.json import Jsonb
from storage3.exceptions import StorageApiError

from local.stack import StackStatus
from tests.database.personas import connect
from tests.e2e.people import Person, client, operator, sign_up

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 64


@pytest.fixture(scope="module")
def owner(stack: StackStatus) -> Person:
    return sign_up(stack)


@pytest.fixture(scope="module")
def stranger(stack: StackStatus) -> Person:
    return sign_up(stack)


def refused(call: Any) -> APIError:
    with pytest.raises(APIError) as raised:
        call.execute()
    return raised.value


def profile(stack: StackStatus, person: Person) -> dict[str, Any]:
    row: Any = operator(stack).table("profiles").select("*").eq("id", person.id).single().execute().data
    return dict(row)


@pytest.mark.parametrize(
    "change",
    [
        {"credits_remaining": 1_000_000},
        {"is_admin": True},
        {"is_active": True},
        {"subscription_status": "starter"},
        {"total_credits_used": 0},
        {"email": "boss@example.com"},
        {"first_name": "Ada", "credits_remaining": 3},
    ],
)
def test_a_user_cannot_write_what_is_not_his_to_write(
    stack: StackStatus, owner: Person, change: dict[str, Any]
) -> None:
    before = profile(stack, owner)
    assert refused(owner.api.table("profiles").update(change).eq("id", owner.id)).code == "42501"
    assert profile(stack, owner) == before


def test_a_user_can_change_his_name(stack: StackStatus, owner: Person) -> None:
    owner.api.table("profiles").update({"first_name": "Ada"}).eq("id", owner.id).execute()
    assert profile(stack, owner)["first_name"] == "Ada"


def test_a_user_cannot_write_transactions(owner: Person) -> None:
    row = {
        "user_id": owner.id,
        "transaction_type": "bonus",
        "amount": 100,
        "balance_before": 2,
        "balance_after": 102,
        "seq": 2,
    }
    assert refused(owner.api.table("credit_transactions").insert(row)).code == "42501"
    assert refused(owner.api.table("credit_transactions").delete().eq("user_id", owner.id)).code == "42501"
    assert owner.credits() == 2


@pytest.mark.parametrize("function", ["add_user_credits", "deduct_user_credits"])
def test_a_user_cannot_call_the_credit_functions(owner: Person, stranger: Person, function: str) -> None:
    for person in (owner, stranger):
        arguments = {"p_user_id": person.id, "p_amount": 1, "p_transaction_type": "bonus"}
        assert refused(owner.api.rpc(function, arguments)).code == "42501"
    assert (owner.credits(), stranger.credits()) == (2, 2)


def test_a_user_cannot_call_the_workers_functions(owner: Person) -> None:
    assert refused(owner.api.rpc("claim_image_operations", {"p_worker_id": "me"})).code == "42501"
    token = {"p_operation_id": str(uuid.uuid4()), "p_lease_token": str(uuid.uuid4())}
    assert refused(owner.api.rpc("release_image_operation", token)).code == "42501"
    assert refused(owner.api.rpc("verify_ledger", {})).code == "42501"


def test_operations_are_requested_and_never_inserted(owner: Person) -> None:
    image = owner.upload("mine.png", PNG)
    row = {"image_id": image, "user_id": owner.id, "operation_type": "upscale", "api_provider": "free"}
    assert refused(owner.api.table("image_operations").insert(row)).code == "42501"
    assert refused(owner.api.table("image_operations").update({"status": "completed"}).eq("image_id", image)).code == (
        "42501"
    )


def test_a_stranger_sees_and_touches_nothing(owner: Person, stranger: Person) -> None:
    image = owner.upload("mine.png", PNG)
    operation = owner.request(image, "upscale", scale=2)
    for table, key in (("images", image), ("image_operations", operation["id"])):
        assert stranger.api.table(table).select("*").eq("id", key).execute().data == []
    assert stranger.api.table("profiles").select("*").eq("id", owner.id).execute().data == []
    assert stranger.api.table("credit_transactions").select("*").eq("user_id", owner.id).execute().data == []
    changed = stranger.api.table("images").update({"original_filename": "his.png"}).eq("id", image).execute().data
    assert changed == []
    assert stranger.api.table("images").delete().eq("id", image).execute().data == []
    arguments = {"p_image_id": image, "p_operation_type": "upscale"}
    assert refused(stranger.api.rpc("request_image_operation", arguments)).code == "PT404"
    assert refused(stranger.api.rpc("cancel_image_operation", {"p_operation_id": operation["id"]})).code == "PT404"
    owner.api.rpc("cancel_image_operation", {"p_operation_id": operation["id"]}).execute()


def test_an_image_row_cannot_point_into_somebody_elses_folder(owner: Person, stranger: Person) -> None:
    for url in (
        f"originals/{owner.id}/a.png",
        f"results/{stranger.id}/a.png",
        f"originals/{stranger.id}/../x",
        "originals//x",
    ):
        row = {"user_id": stranger.id, "original_filename": "a.png", "original_url": url}
        assert refused(stranger.api.table("images").insert(row)).code
    row = {"user_id": owner.id, "original_filename": "a.png", "original_url": f"originals/{owner.id}/a.png"}
    assert refused(stranger.api.table("images").insert(row)).code == "42501"


def test_objects_are_the_owners_alone(stack: StackStatus, owner: Person, stranger: Person) -> None:
    key = f"{owner.id}/{uuid.uuid4()}.png"
    owner.api.storage.from_("originals").upload(key, PNG, {"content-type": "image/png"})
    assert owner.api.storage.from_("originals").download(key) == PNG
    anonymous = client(stack, stack.publishable_key)
    for api in (stranger.api, anonymous):
        bucket = api.storage.from_("originals")
        with pytest.raises(StorageApiError):
            bucket.download(key)
        with pytest.raises(StorageApiError):
            bucket.create_signed_url(key, 60)
        with pytest.raises(StorageApiError):
            bucket.upload(f"{owner.id}/{uuid.uuid4()}.png", PNG, {"content-type": "image/png"})
        with pytest.raises(StorageApiError):
            bucket.update(key, b"other" + PNG, {"content-type": "image/png"})
        assert bucket.list(owner.id) == []
        bucket.remove([key])
    assert owner.api.storage.from_("originals").download(key) == PNG


def test_only_workers_write_results(owner: Person) -> None:
    with pytest.raises(StorageApiError):
        owner.api.storage.from_("results").upload(f"{owner.id}/free.png", PNG, {"content-type": "image/png"})


def test_uploads_are_limited_in_size_and_type(owner: Person) -> None:
    bucket = owner.api.storage.from_("originals")
    with pytest.raises(StorageApiError, match="exceeded the maximum"):
        bucket.upload(f"{owner.id}/big.png", b"0" * (60 << 20), {"content-type": "image/png"})
    with pytest.raises(StorageApiError, match="mime type"):
        bucket.upload(f"{owner.id}/page.html", b"<script>", {"content-type": "text/html"})


def test_an_upload_without_room_is_a_403_that_tells_why_and_what_to_do(stack: StackStatus) -> None:
    person = sign_up(stack)
    bucket, poster = person.api.storage.from_("originals"), f"{person.id}/poster.tiff"
    png: Any = {"content-type": "image/png"}
    ticket = bucket.create_signed_upload_url(f"{person.id}/later.png")
    with connect(stack.db_url) as db:
        size = Jsonb({"size": 2 * 1024**3})
        db.execute(
            "insert into storage.objects (bucket_id, name, metadata) values ('originals', %s, %s)", [poster, size]
        )

    attempts: list[Callable[[], Any]] = [
        lambda: bucket.upload(f"{person.id}/more.png", PNG, png),
        lambda: bucket.upload(f"{person.id}/more.png", PNG, png | {"upsert": "true"}),
        lambda: bucket.upload_to_signed_url(ticket["path"], ticket["token"], PNG, png),
    ]
    for upload in attempts:
        with pytest.raises(
            StorageApiError, match=r"no room for this file: 2 of your 2 GB are in use\. Delete"
        ) as caught:
            upload()
        assert str(caught.value.status) == "403"
    assert [file["name"] for file in bucket.list(person.id)] == ["poster.tiff"]
    bucket.remove([poster])
    person.upload("more.png", PNG)


def test_too_few_credits_is_a_402_that_tells_how_many(stack: StackStatus) -> None:
    person = sign_up(stack)
    image = person.upload("mine.png", PNG)
    person.request(image, "vectorize")
    error = refused(person.api.rpc("request_image_operation", {"p_image_id": image, "p_operation_type": "upscale"}))
    assert error.code == "PT402"
    assert error.message == "Insufficient credits. Required: 1, Available: 0"
    assert error.details is not None
    assert '"required": 1' in str(error.details)


def test_the_catalogue_is_public_and_nothing_else(stack: StackStatus) -> None:
    anonymous = client(stack, stack.publishable_key)
    for table in ("subscription_plans", "pay_as_you_go_packages", "operation_types"):
        assert anonymous.table(table).select("*").execute().data
    for table in ("profiles", "credit_transactions", "image_operations", "email_logs", "admin_logs", "api_costs"):
        assert refused(anonymous.table(table).select("*")).code == "42501"


def test_a_forged_token_is_refused(stack: StackStatus, owner: Person) -> None:
    header, payload, _ = owner.api.auth.get_session().access_token.split(".")  # type: ignore[union-attr]
    forged = client(stack, stack.publishable_key)
    forged.postgrest.auth(f"{header}.{payload}.{'A' * 43}")
    assert refused(forged.table("profiles").select("*")).code
