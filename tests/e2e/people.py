"""People as the API sees them: signed up through Auth, acting through the official client with their own token."""

import uuid
from dataclasses import dataclass
from typing import Any

from supabase import Client, ClientOptions, create_client

from local.stack import StackStatus

PASSWORD = "correct horse battery"


def client(stack: StackStatus, key: str) -> Client:
    return create_client(stack.api_url, key, ClientOptions(auto_refresh_token=False, persist_session=False))


@dataclass
class Person:
    """A signed-in user with nothing but the publishable key and his token."""

    id: str
    email: str
    api: Client

    def credits(self) -> int:
        row: Any = self.api.table("profiles").select("credits_remaining").eq("id", self.id).single().execute().data
        return int(row["credits_remaining"])

    def upload(self, name: str, data: bytes, media_type: str = "image/png") -> str:
        """Upload a picture as a browser does; returns the id of its `images` row."""
        key = f"{self.id}/{uuid.uuid4()}-{name}"
        self.api.storage.from_("originals").upload(key, data, {"content-type": media_type})
        row = {
            "user_id": self.id,
            "original_filename": name,
            "original_file_size": len(data),
            "original_file_type": media_type,
            "original_url": f"originals/{key}",
        }
        inserted: Any = self.api.table("images").insert(row).execute().data
        return str(inserted[0]["id"])

    def request(self, image_id: str | None, operation_type: str, **options: Any) -> dict[str, Any]:
        """Ask for an operation; returns its row."""
        arguments = {"p_image_id": image_id, "p_operation_type": operation_type, "p_options": options}
        row: Any = self.api.rpc("request_image_operation", arguments).execute().data
        return dict(row)

    def operation(self, operation_id: str) -> dict[str, Any]:
        row: Any = self.api.table("image_operations").select("*").eq("id", operation_id).single().execute().data
        return dict(row)


def sign_up(stack: StackStatus) -> Person:
    api = client(stack, stack.publishable_key)
    email = f"{uuid.uuid4().hex}@example.com"
    user = api.auth.sign_up({"email": email, "password": PASSWORD}).user
    assert user is not None
    return Person(user.id, email, api)


def operator(stack: StackStatus) -> Client:
    return client(stack, stack.secret_key)


def give_credits(stack: StackStatus, person: Person, amount: int) -> None:
    arguments = {"p_user_id": person.id, "p_amount": amount, "p_transaction_type": "bonus"}
    operator(stack).rpc("add_user_credits", arguments).execute()
