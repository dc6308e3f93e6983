"""What a public collection shows to somebody who is not signed in, and how an account leaves, through the real APIs."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from postgrest import APIError
from storage3.exceptions import StorageApiError
from supabase import Client

from local.stack import StackStatus
from tests.e2e.people import Person, client, sign_up

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@dataclass
class Published:
    """A finished image, its collection, and the keys of its objects."""

    owner: Person
    collection: str
    original: str
    result: str
    thumbnail: str


@pytest.fixture
def published(stack: StackStatus) -> Published:
    """An image with a result, in a collection that is still private; the test plays the worker."""
    service = client(stack, stack.secret_key)
    owner = sign_up(stack)
    image = owner.upload("shirt.png", PNG)
    requested = owner.request(image, "upscale")
    lease = None
    while lease is None or lease["id"] != requested["id"]:
        leases: Any = service.rpc("claim_image_operations", {"p_worker_id": "test"}).execute().data
        lease = leases[0]
    folder = f"{owner.id}/{lease['id']}"
    for name in ("result.png", "thumbnail.webp"):
        service.storage.from_("results").upload(f"{folder}/{name}", PNG, {"content-type": "image/png"})
    output = {"url": f"results/{folder}/result.png", "thumbnail_url": f"results/{folder}/thumbnail.webp"}
    service.rpc(
        "complete_image_operation",
        {
            "p_operation_id": lease["id"],
            "p_lease_token": lease["lease_token"],
            "p_api_provider": "waifu2x",
            "p_output": output,
            "p_processing_time": 1,
        },
    ).execute()
    collection: Any = owner.api.table("image_collections").insert({"name": "Best"}).execute().data
    item = {"collection_id": collection[0]["id"], "image_id": image}
    owner.api.table("image_collection_items").insert(item).execute()
    row: Any = owner.api.table("images").select("original_url").eq("id", image).single().execute().data
    return Published(
        owner,
        collection[0]["id"],
        row["original_url"].removeprefix("originals/"),
        f"{folder}/result.png",
        f"{folder}/thumbnail.webp",
    )


def publish(shown: Published, *, is_public: bool = True) -> None:
    table = shown.owner.api.table("image_collections")
    table.update({"is_public": is_public}).eq("id", shown.collection).execute()


def downloads(visitor: Client, bucket: str, key: str) -> bool:
    try:
        return visitor.storage.from_(bucket).download(key) == PNG
    except StorageApiError:
        return False


def signs(visitor: Client, bucket: str, key: str) -> bool:
    try:
        return bool(visitor.storage.from_(bucket).create_signed_url(key, 60)["signedURL"])
    except StorageApiError:
        return False


@pytest.mark.parametrize("signed_in", [False, True], ids=["visitor", "stranger"])
def test_a_public_collection_shows_its_thumbnails_and_chosen_files_only(
    stack: StackStatus, published: Published, signed_in: bool
) -> None:
    visitor = sign_up(stack).api if signed_in else client(stack, stack.publishable_key)
    arguments = {"p_collection_id": published.collection}

    def readable() -> dict[str, bool]:
        objects = {
            "original": ("originals", published.original),
            "result": ("results", published.result),
            "thumbnail": ("results", published.thumbnail),
        }
        found = {name: downloads(visitor, *key) for name, key in objects.items()}
        assert found == {name: signs(visitor, *key) for name, key in objects.items()}
        return found

    nothing = {"original": False, "result": False, "thumbnail": False}
    assert readable() == nothing
    with pytest.raises(APIError, match="Collection not found"):
        visitor.rpc("public_collection_images", arguments).execute()

    publish(published)
    assert readable() == nothing | {"thumbnail": True}
    shown: Any = visitor.rpc("public_collection_images", arguments).execute().data
    assert set(shown[0]) == {"image_id", "original_filename", "thumbnail_url", "final_url", "added_at"}
    assert (shown[0]["thumbnail_url"], shown[0]["final_url"]) == (f"results/{published.thumbnail}", None)

    images = published.owner.api.table("images")
    images.update({"final_url": f"results/{published.result}"}).eq("id", shown[0]["image_id"]).execute()
    assert readable() == nothing | {"thumbnail": True, "result": True}
    collections: Any = visitor.table("image_collections").select("name, image_collection_items(image_id)").execute()
    assert {"name": "Best", "image_collection_items": [{"image_id": shown[0]["image_id"]}]} in collections.data

    publish(published, is_public=False)
    assert readable() == nothing


def test_a_deactivated_accounts_collections_are_hidden(stack: StackStatus, published: Published) -> None:
    visitor, service = client(stack, stack.publishable_key), client(stack, stack.secret_key)
    publish(published)
    assert downloads(visitor, "results", published.thumbnail)
    service.table("profiles").update({"is_active": False}).eq("id", published.owner.id).execute()
    assert not downloads(visitor, "results", published.thumbnail)
    query = visitor.table("image_collections").select("id").eq("id", published.collection)
    assert query.execute().data == []
    mine = published.owner.api.table("image_collections").select("id").eq("user_id", published.owner.id).execute().data
    assert mine == [{"id": published.collection}], "its owner still reads it"


def test_an_account_takes_its_objects_along_and_then_goes(published: Published) -> None:
    owner = published.owner
    export: Any = owner.api.rpc("export_account").execute().data
    assert {row["name"] for row in export["objects"]} == {published.original, published.result, published.thumbnail}
    with pytest.raises(APIError) as refused:
        owner.api.rpc("delete_account").execute()
    details: Any = refused.value.details
    detail = details if isinstance(details, dict) else json.loads(details)
    assert (refused.value.code, detail["counts"]) == ("PT409", {"originals": 1, "results": 2})
    for key in detail["first_keys"]:
        bucket, _, name = key.partition("/")
        owner.api.storage.from_(bucket).remove([name])
    owner.api.rpc("delete_account").execute()
    with pytest.raises(APIError, match="not found"):
        owner.api.rpc("export_account").execute()
