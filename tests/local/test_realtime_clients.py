"""Realtime as the official clients use it: supabase-js in Node, and the Python package."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimePostgresChangesListenEvent,
    RealtimeSubscribeStates,
)

from local.stack import Stack, StackStatus
from tests.e2e.people import sign_up
from tests.local.realtime_socket import Realtime
from tests.node import run_node

SCRIPT = Path(__file__).with_name("realtime.mjs")


@pytest.fixture
def told_users(local_stack: Stack) -> Iterator[None]:
    """A project that has chosen to tell users on their topics."""
    with psycopg.connect(local_stack.state.db_url, autocommit=True) as connection:
        connection.execute("select private.broadcast_to_users(true)")
        yield
        connection.execute("select private.broadcast_to_users(false)")


@pytest.mark.usefixtures("told_users")
def test_supabase_js(stack: StackStatus) -> None:
    project = {"SUPABASE_URL": stack.api_url, "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key}
    done = run_node(SCRIPT, **project)
    assert done.returncode == 0, done.stderr


async def subscribed(channel: AsyncRealtimeChannel) -> None:
    """Subscribe, and wait until it is so."""
    states: asyncio.Queue[RealtimeSubscribeStates] = asyncio.Queue()
    await channel.subscribe(lambda state, _: states.put_nowait(state))
    assert await states.get() is RealtimeSubscribeStates.SUBSCRIBED


async def use_python_client(stack: StackStatus, realtime: Realtime) -> None:
    person = sign_up(stack)
    session = person.api.auth.get_session()
    assert session is not None
    client = AsyncRealtimeClient(f"{stack.api_url}/realtime/v1", stack.publishable_key)
    await client.set_auth(session.access_token)
    changes: asyncio.Queue[Any] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    ready: asyncio.Queue[Any] = asyncio.Queue()
    joined: asyncio.Queue[Any] = asyncio.Queue()
    room: Any = {"config": {"broadcast": {"self": True, "ack": True}, "presence": {"key": "me", "enabled": True}}}
    channel = client.channel("room", room)
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All,
        changes.put_nowait,
        table="images",
        schema="public",
        filter=f"user_id=eq.{person.id}",
    )
    channel.on_broadcast("hello", heard.put_nowait)
    channel.on_presence_join(lambda key, _before, now: joined.put_nowait((key, now)))
    channel.on_system(ready.put_nowait)
    await subscribed(channel)
    assert (await ready.get()).message == "Subscribed to PostgreSQL"

    image = await asyncio.to_thread(person.upload, "shirt.png", b"x")
    data = (await changes.get())["data"]
    assert (data["type"], data["record"]["id"]) == ("INSERT", image)
    await asyncio.to_thread(person.api.table("images").update({"is_favorite": True}).eq("id", image).execute)
    data = (await changes.get())["data"]
    assert (data["record"]["is_favorite"], data["old_record"]) == (True, {"id": image})

    await channel.send_broadcast("hello", {"n": 1})
    assert (await heard.get())["payload"] == {"n": 1}
    await channel.http_send("hello", {"n": 2})
    assert (await heard.get())["payload"] == {"n": 2}

    await channel.track({"mood": "good"})
    key, (presence,) = await joined.get()
    assert (key, presence["mood"]) == ("me", "good")

    private: Any = {"config": {"private": True}}
    await subscribed(client.channel(f"user:{person.id}", private))
    with pytest.raises(AssertionError):
        await subscribed(client.channel(f"user:{uuid.uuid4()}", private))
    await client.remove_all_channels()
    await client.close()


def test_the_python_client(stack: StackStatus, realtime: Realtime) -> None:
    async def run() -> None:
        async with asyncio.timeout(30):
            await use_python_client(stack, realtime)

    asyncio.run(run())
