"""A project URL that misbehaves on command: the worker's functions and Storage, in memory, on loopback.

It stands in for the real stack only where a test needs a fault that the real one cannot be asked for: an answer
that never comes, is cut off or is lost, or a lease that is gone at a certain call.
"""

import asyncio
import email
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

FOREVER = 3600.0

# A report that was heard already is answered once more, as by the database.
SETTLED = {
    "complete_image_operation": {"completed"},
    "complete_and_claim_image_operation": {"completed"},
    "fail_image_operation": {"pending", "failed"},
    "release_image_operation": {"pending"},
}


@dataclass
class FakeOperation:
    """A row of the queue."""

    options: dict[str, Any]
    operation_type: str = "upscale"
    input_url: str | None = None
    max_attempts: int = 3
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    user_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "pending"
    attempts: int = 0
    lease_token: str | None = None
    lease_expires_at: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)


class Cut(Response):
    """An answer that breaks off in the middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"[", "more_body": True})
        raise ConnectionError("cut on purpose")


class ApiDouble:
    """The server; `faults` maps part of a path to what goes wrong there, as in `_faulty`.

    `"lose_reply, refused"` is one fault for the first request and another for all that follow.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.operations: dict[str, FakeOperation] = {}
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.faults: dict[str, str] = {}
        self.calls: list[tuple[float, str, dict[str, Any]]] = []
        self.most_at_once = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._app = Starlette(
            routes=[
                Route("/rest/v1/rpc/{name}", self._rpc, methods=["POST"]),
                Route("/storage/v1/object/endless/{key:path}", self._endless, methods=["GET"]),
                Route("/storage/v1/object/{url:path}", self._storage, methods=["GET", "POST", "DELETE"]),
            ]
        )

    def add(self, do: str = "echo", *, source: bytes | None = b"picture", **fields: Any) -> FakeOperation:
        """Put an operation into the queue; what its engine does is in its options."""
        options = {"do": do} | fields.pop("options", {})
        operation = FakeOperation(options, **fields)
        if source is not None and operation.input_url is None:
            operation.input_url = f"originals/{operation.user_id}/art.png"
            self.objects[operation.input_url] = ("image/png", source)
        self.operations[operation.id] = operation
        return operation

    def called(self, name: str) -> list[dict[str, Any]]:
        """The arguments of all calls of one function."""
        return [params for _, called, params in self.calls if called == name]

    def results(self) -> set[str]:
        """Names of the objects in the bucket of results."""
        return {url for url in self.objects if url.startswith("results/")}

    def start(self) -> None:
        """Start to listen, on the same port each time."""
        config = uvicorn.Config(
            self._app, port=self._port, log_level="critical", lifespan="off", timeout_graceful_shutdown=0
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop to listen and cut all connections."""
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join()

    async def _faulty(self, path: str, answer: Callable[[], Awaitable[Response]]) -> Response:
        match self._next_fault(path):
            case "500":
                return Response("internal error", status_code=500)
            case "silent":
                await asyncio.sleep(FOREVER)
            case "cut":
                return Cut()
            case "lease_lost":
                return _lease_lost()
            case "refused":
                return JSONResponse({"code": "42501", "message": "permission denied"}, status_code=403)
            case "no_bucket":
                body = {"statusCode": "404", "error": "Bucket not found", "message": "Bucket not found"}
                return JSONResponse(body, status_code=400)
            case "no_route":
                return Response("<h1>404 page not found</h1>", status_code=404)
            case "done_but_refused":
                await answer()
                return Response("blocked", status_code=403)
            case "lose_reply":
                await answer()
                return Cut()
        return await answer()

    def _next_fault(self, path: str) -> str | None:
        for part, faults in self.faults.items():
            if part in path:
                fault, _, later = faults.partition(", ")
                self.faults[part] = later or fault
                return fault
        return None

    async def _rpc(self, request: Request) -> Response:
        name, params = request.path_params["name"], await request.json()
        self.calls.append((time.monotonic(), name, params))

        async def answer() -> Response:
            if name == "claim_image_operations":
                return self._claim(params)
            answer = self._with_lease(name, params)
            if name == "complete_and_claim_image_operation" and answer.status_code == 200:
                return self._claim(params | {"p_limit": 1})
            return answer

        return await self._faulty(request.url.path, answer)

    def _claim(self, params: dict[str, Any]) -> Response:
        now = time.monotonic()
        rows: list[dict[str, Any]] = []
        for operation in self.operations.values():
            if operation.status == "processing" and operation.lease_token == params["p_claim_id"]:
                operation.lease_expires_at = now + params["p_lease_seconds"]
                rows.append({name: value for name, value in vars(operation).items() if name != "report"})
        if rows:
            return JSONResponse(rows)
        for operation in self.operations.values():
            if operation.status == "processing" and operation.lease_expires_at < now:
                operation.status = "pending"
            if (
                len(rows) < params["p_limit"]
                and operation.status == "pending"
                and operation.operation_type in params["p_operation_types"]
            ):
                operation.status = "processing"
                operation.attempts += 1
                operation.lease_token = params["p_claim_id"]
                operation.lease_expires_at = now + params["p_lease_seconds"]
                rows.append({name: value for name, value in vars(operation).items() if name != "report"})
        at_once = sum(operation.status == "processing" for operation in self.operations.values())
        self.most_at_once = max(self.most_at_once, at_once)
        return JSONResponse(rows)

    def _with_lease(self, name: str, params: dict[str, Any]) -> Response:
        operation = self.operations[params["p_operation_id"]]
        settled = SETTLED.get(name, set())
        if operation.lease_token != params["p_lease_token"] or operation.status not in {"processing"} | settled:
            return _lease_lost()
        if operation.status in settled:
            return JSONResponse({"id": operation.id, "status": operation.status})
        if name == "extend_image_operation_lease":
            operation.lease_expires_at = time.monotonic() + params["p_lease_seconds"]
            return JSONResponse("2026-01-01T00:00:00+00:00")
        operation.report = params
        if name.startswith("complete"):
            operation.status = "completed"
        elif name == "release_image_operation":
            operation.status, operation.attempts = "pending", operation.attempts - 1
        elif params["p_retryable"] and operation.attempts < operation.max_attempts:
            operation.status = "pending"
        else:
            operation.status = "failed"
        return JSONResponse({"id": operation.id, "status": operation.status})

    async def _storage(self, request: Request) -> Response:
        url = request.path_params["url"]

        async def answer() -> Response:
            if request.method == "POST":
                self.objects[url] = _uploaded_file(request.headers["content-type"], await request.body())
                return JSONResponse({"Key": url})
            if request.method == "DELETE":
                for key in (await request.json())["prefixes"]:
                    self.objects.pop(f"{url}/{key}", None)
                return JSONResponse([])
            if url not in self.objects:
                body = {"statusCode": "404", "error": "not_found", "message": "Object not found"}
                return JSONResponse(body, status_code=400)
            return Response(self.objects[url][1], media_type=self.objects[url][0])

        return await self._faulty(f"{request.method} {request.url.path}", answer)

    async def _endless(self, _: Request) -> Response:
        async def chunks() -> Any:
            while True:
                yield bytes(1 << 20)
                await asyncio.sleep(0)  # lets the server notice that nobody listens any more

        return StreamingResponse(chunks())


@contextmanager
def serve() -> Iterator[ApiDouble]:
    """Run a double while the context lasts."""
    double = ApiDouble()
    double.start()
    try:
        yield double
    finally:
        double.stop()


def _uploaded_file(content_type: str, body: bytes) -> tuple[str, bytes]:
    form = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    (part,) = [part for part in form.walk() if part.get_filename()]
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return part.get_content_type(), payload


def _lease_lost() -> Response:
    return JSONResponse({"code": "PT409", "message": "Lease lost"}, status_code=409)
