"""One websocket: reads the client's frames, and sends within a bounded buffer.

A client that does not read what it is sent is cut off: it would otherwise fill this process's memory. It finds out
when it reads again, and reconnects.
"""

import asyncio
from collections.abc import Mapping

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from local.realtime.channel import PREFIX, Channel, JoinError, Services
from local.realtime.frames import Frame, FrameError, Message, Protocol, UserBroadcast, dumps

BUFFER_BYTES = 8_000_000
SILENCE_SECONDS = 60.0  # clients send a heartbeat every 25 s
CLOSE_SECONDS = 1.0
MAX_CHANNELS = 100

log = structlog.get_logger(__name__)


class Connection:
    """Serves one client until it goes."""

    def __init__(self, services: Services, websocket: WebSocket, protocol: Protocol, token: str) -> None:
        self._services = services
        self._websocket = websocket
        self._protocol = protocol
        self._token = token
        self._headers: Mapping[str, str] = {
            name: value for name, value in websocket.headers.items() if name.startswith("x-") and name != "x-api-key"
        }
        self._channels: dict[str, Channel] = {}
        self._outbox: asyncio.Queue[Frame] = asyncio.Queue()
        self._waiting = 0  # bytes in the outbox
        self._overflow = asyncio.Event()

    async def serve(self) -> None:
        """Until the client goes, stays silent for too long, or does not read."""
        await self._websocket.accept()
        tasks = [asyncio.create_task(work) for work in (self._read(), self._write(), self._overflow.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for channel in list(self._channels.values()):
                channel.close()
        failures = [result for result in results if isinstance(result, Exception)]
        for failure in failures:
            if not isinstance(failure, WebSocketDisconnect):
                log.error("connection_failed", exc_info=failure)
        await self._close(1011 if failures or self._overflow.is_set() else 1000)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.close(code)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass  # it is gone, or does not read

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    event = await self._websocket.receive()
            except TimeoutError:
                return
            if event["type"] == "websocket.disconnect":
                return
            frame: Frame = event["text"] if event.get("text") is not None else event["bytes"]
            try:
                await self._handle(self._protocol.decode(frame))
            except FrameError as error:
                log.info("malformed_frame", error=str(error))

    async def _handle(self, message: Message) -> None:
        channel = self._channels.get(message.topic)
        if message.topic == "phoenix" and message.event == "heartbeat":
            self.push(None, message.ref, "phoenix", "phx_reply", dumps({"status": "ok", "response": {}}))
        elif message.event == "phx_join":
            await self._join(message)
        elif channel is not None:
            await channel.handle(message)
        elif message.event == "phx_leave":
            self._reply(message, "ok", {})
        else:
            self._reply(message, "error", {"reason": "unmatched topic"})

    async def _join(self, message: Message) -> None:
        if not message.topic.startswith(PREFIX):
            self._reply(message, "error", {"reason": "unmatched topic"})
            return
        before = self._channels.get(message.topic)
        if before is not None:
            before.close()
        if len(self._channels) >= MAX_CHANNELS:
            self._reply(message, "error", {"reason": "ChannelRateLimitReached: Too many channels"})
            return
        channel = Channel(self._services, self, message, self._headers)
        self._channels[message.topic] = channel
        try:
            await channel.join(message, self._token)
        except JoinError as error:
            del self._channels[message.topic]
            self._reply(message, "error", {"reason": str(error)})

    def _reply(self, message: Message, status: str, response: object) -> None:
        payload = dumps({"status": status, "response": response})
        self.push(message.join_ref, message.ref, message.topic, "phx_reply", payload)

    # what channels call

    def push(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: str) -> None:
        """Send a text frame; `payload` is JSON. Never waits."""
        self._send(self._protocol.encode(join_ref, ref, topic, event, payload))

    def push_broadcast(self, topic: str, broadcast: UserBroadcast) -> None:
        """Send a broadcast where this version of the protocol can express it."""
        frame = self._protocol.encode_broadcast(topic, broadcast)
        if frame is not None:
            self._send(frame)

    def closed(self, channel: Channel) -> None:
        """Forget a channel that has ended."""
        for topic, known in list(self._channels.items()):
            if known is channel:
                del self._channels[topic]

    def _send(self, frame: Frame) -> None:
        if self._waiting > BUFFER_BYTES:
            if not self._overflow.is_set():
                log.warning("client_too_slow", waiting_bytes=self._waiting, effect="it is disconnected")
            self._overflow.set()
            return
        self._waiting += len(frame)
        self._outbox.put_nowait(frame)

    async def _write(self) -> None:
        while True:
            frame = await self._outbox.get()
            if isinstance(frame, str):
                await self._websocket.send_text(frame)
            else:
                await self._websocket.send_bytes(frame)
            self._waiting -= len(frame)
