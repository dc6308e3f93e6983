"""The Supabase project as operators act on it: with the secret key, which row level security does not hold."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cli.errors import CommandError
from local.stack import StackStatus, default_directory, running_stack

if TYPE_CHECKING:
    from supabase import Client

    from services import project
    from services.settings import ProjectSettings

EMAIL_HTTP_PORT = "8081"
REMOVE_SECONDS = 60.0


class RefusedError(CommandError):
    """The project refused a request: `code` as in PostgREST, `detail` for programs."""

    def __init__(self, error: project.RefusedError) -> None:
        self.code = error.code
        self.detail = _json_object(error.details)
        super().__init__(" ".join(text for text in (_sentence(error.message), error.hint) if text))


def local_stack() -> StackStatus | None:
    """The stack that runs on this machine, unless SUPABASE_URL names another project. Raises StackError."""
    return None if os.environ.get("SUPABASE_URL") else running_stack()


def project_settings() -> ProjectSettings:
    """The project named by SUPABASE_URL and SUPABASE_SECRET_KEY, else the local stack.

    Raises CommandError, and StackError where no stack runs.
    """
    from pydantic import SecretStr

    from services.settings import ProjectSettings, SettingsError, load

    if stack := local_stack():
        return ProjectSettings(supabase_url=stack.api_url, supabase_secret_key=SecretStr(stack.secret_key))
    if not os.environ.get("SUPABASE_SECRET_KEY"):
        raise CommandError("SUPABASE_URL is set but SUPABASE_SECRET_KEY is not. Set both, or none for the local stack.")
    try:
        return load(ProjectSettings)
    except SettingsError as error:
        raise CommandError(str(error)) from error


def connect() -> Client:
    """Make the client of the project; raises as `project_settings` does."""
    from supabase import ClientOptions, create_client

    settings = project_settings()
    return create_client(
        settings.supabase_url,
        settings.supabase_secret_key.get_secret_value(),
        ClientOptions(auto_refresh_token=False, persist_session=False),
    )


def take_project_from_stack() -> None:
    """Let services find their project: where the environment names none, the stack that runs on this machine."""
    if stack := local_stack():
        os.environ |= {"SUPABASE_URL": stack.api_url, "SUPABASE_SECRET_KEY": stack.secret_key}
        if stack.jwt_secret:
            os.environ.setdefault("SUPABASE_JWT_SECRET", stack.jwt_secret)
        if stack.web_url:
            os.environ.setdefault("BILLING_ORIGINS", stack.web_url)
        port = os.environ.setdefault("EMAIL_HTTP_PORT", EMAIL_HTTP_PORT)
        for name, value in email_settings(stack, port).items():
            # Who has a key for SendGrid wants to try it.
            if name != "EMAIL_SMTP_URL" or not os.environ.get("SENDGRID_API_KEY"):
                os.environ.setdefault(name, value)


def email_settings(stack: StackStatus, http_port: str) -> dict[str, str]:
    """What the e-mail service needs on this machine: it sends to the stack's mailbox, and listens on `http_port`."""
    settings = {
        "EMAIL_FROM": "DTF Editor <hello@example.com>",
        "EMAIL_APP_URL": stack.web_url or stack.api_url,
        "EMAIL_PUBLIC_URL": f"http://127.0.0.1:{http_port}",
        # The same as long as the stack has its keys, so that links in old mails go on working.
        "EMAIL_LINK_SECRET": hmac.new(stack.secret_key.encode(), b"links to unsubscribe", hashlib.sha256).hexdigest(),
        "EMAIL_SMTP_URL": stack.smtp_url,
    }
    return {name: value for name, value in settings.items() if value}


def take_billing_from_stack() -> None:
    """As take_project_from_stack, and Stripe too: where the environment names none, the stand-in that runs beside it.

    Only beside the stack of this machine: what is bought at a stand-in costs nothing. Raises CommandError without any.
    """
    from local.stripe import SECRET_KEY, WEBHOOK_SECRET, server

    is_local = not os.environ.get("SUPABASE_URL")
    take_project_from_stack()
    if os.environ.get("STRIPE_SECRET_KEY"):
        return
    url = server.find(default_directory()) if is_local else None
    if url is None:
        raise CommandError(
            "STRIPE_SECRET_KEY is not set. Take it and STRIPE_WEBHOOK_SECRET from Stripe's dashboard"
            + (", or start a stand-in with: dtf stripe local" if is_local else ".")
        )
    os.environ |= {
        "STRIPE_API_URL": url,
        "STRIPE_SECRET_KEY": SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }


@contextmanager
def answers() -> Iterator[None]:
    """Turn what the project refuses, or does not answer, into errors that a person can read."""
    from services import project

    try:
        with project.answers("the request"):
            yield
    except project.RefusedError as error:
        raise RefusedError(error) from error
    except project.UnavailableError as error:
        raise CommandError(f"The project does not answer ({error}). Is SUPABASE_URL right?") from error


def call(client: Client, function: str, **arguments: Any) -> Any:
    """Call a function of the database; arguments that are None keep their defaults."""
    sent = {f"p_{name}": value for name, value in arguments.items() if value is not None}
    with answers():
        return client.rpc(function, sent).execute().data


def remove_objects(keys: Sequence[str]) -> list[str]:
    """Remove objects, named bucket/key, with their bytes; returns those that were there."""
    from services import project

    async def remove() -> list[str]:
        async with project.http_client() as http:
            client = await project.connect(project_settings(), http)
            return await project.remove_objects(client, keys, REMOVE_SECONDS)

    with answers():
        return asyncio.run(remove())


def counted(client: Client, table: str) -> Any:
    """A query of all rows of a table, to be filtered, for `count`."""
    from postgrest import CountMethod

    return client.table(table).select("*", count=CountMethod.exact)


def count(query: Any) -> int:
    """How many rows a query of `counted` finds."""
    with answers():
        # One row, and not none with a HEAD request: its answer has no body for an error to be in.
        return int(query.limit(1).execute().count or 0)


def containing(text: str) -> str:
    """The pattern of `like` for what contains a text, in which % and _ stand for themselves."""
    literal = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{literal}%"


def find_user(client: Client, who: str) -> dict[str, Any]:
    """The profile of a user named by his id or his whole e-mail address."""
    try:
        column, value = "id", str(UUID(who))
    except ValueError:
        # Auth keeps addresses in lower case.
        column, value = "email", who.lower()
    with answers():
        rows: Any = client.table("profiles").select("*").eq(column, value).execute().data
    if not rows:
        raise CommandError(f"There is no user {who}. Name one by id or by the whole e-mail address.")
    found: dict[str, Any] = rows[0]
    return found


def _json_object(text: Any) -> dict[str, Any]:
    """The detail of an error: JSON in a text, as PostgREST sends it, or already decoded."""
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _sentence(text: str | None) -> str:
    return f"{text}." if text and text[-1] not in ".!?" else text or ""
