"""Wakes the worker when an operation is inserted, as long as Realtime is there.

Delivery is at most once, so an event only says "look now". The `realtime` client gives up for good after a
few failed reconnections; here each connection is used once and a new client is made when it ends.
"""

import asyncio
import contextlib
import time
from typing import NoReturn

import structlog
from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent, RealtimeSubscribeStates
from realtime.message import ErrorSystemPayload, SuccessSystemPayload

from services.waiting import Backoff, jittered

RETRY_WAIT = (1.0, 60.0)  # seconds, first and longest
CLOSE_TIMEOUT = 2.0  # seconds

log = structlog.get_logger(__name__)


async def listen(supabase_url: str, secret_key: str, wake: asyncio.Event) -> NoReturn:
    """Set `wake` at every insert and after every (re)subscription, until cancelled."""
    backoff, was_there = Backoff(*RETRY_WAIT), True
    while True:
        client = AsyncRealtimeClient(f"{supabase_url}/realtime/v1", token=secret_key, auto_reconnect=False)
        try:
            ended = await _subscribe(client, wake)
            log.info("realtime_subscribed")
            was_there, since = True, time.monotonic()
            reason = await ended
            if time.monotonic() - since > RETRY_WAIT[1]:  # a short-lived subscription is no reason for haste
                backoff.reset()
        except Exception as error:  # noqa: BLE001 - the client raises bare Exceptions; polling carries on
            reason = str(error)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await client.close()
        if was_there:
            log.info("realtime_away", reason=reason, effect="new operations are found by polling")
        was_there = False
        await asyncio.sleep(jittered(backoff.next()))


async def _subscribe(client: AsyncRealtimeClient, wake: asyncio.Event) -> asyncio.Future[str]:
    """Subscribe and return a future that is done, with the reason, when the subscription has ended."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(reason: str) -> None:
        if not ended.done():
            ended.set_result(reason)

    def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            end(str(error or state.value))

    # Events flow a moment after the subscription is answered; the server says so in a system message, or why they
    # never will. It also says when it may have missed some.
    def on_system(message: SuccessSystemPayload | ErrorSystemPayload) -> None:
        if message.status == "ok":
            wake.set()
        else:
            end(message.message)

    channel = client.channel("images-worker")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.Insert, lambda _: wake.set(), table="image_operations", schema="public"
    )
    channel.on_system(on_system)
    await channel.subscribe(on_state)
    if ended.done():
        raise ConnectionError(ended.result())
    wake.set()
    return ended
