"""What the HTTP sides of services share: apps that hold no stranger's word for true, bodies of bounded size, and errors
in the shape of PostgREST's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

HEADERS = {429: {"retry-after": "60"}, 401: {"www-authenticate": "Bearer"}}


class ForgedError(Exception):
    """What came was not signed by whom it should be from, or not lately; nothing of it was used."""


class WrongRequestError(Exception):
    """The request cannot be carried out; `status` is that of the answer, the message is for the caller."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


def http_app(
    routes: Sequence[BaseRoute],
    errors: Mapping[type[Exception], Callable[[Request, Exception], Any]] | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """Make an app; `errors` answers exceptions."""
    app = Starlette(routes=routes, exception_handlers=errors or {}, middleware=middleware)
    # A redirect would lead wherever the Host header says, and take the query along.
    app.router.redirect_slashes = False
    return app


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body, of at most `limit` bytes. One that is longer is not read: connections.py sees to it that every body
    is as long as its head says. Raises WrongRequestError.
    """
    if int(request.headers.get("content-length", 0)) > limit:
        raise WrongRequestError(413, "The body is too large", f"Send at most {limit} bytes.")
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise WrongRequestError(400, "The body is not complete", "Send all of it.") from error


def error_answer(status: int, message: str, hint: str | None) -> Response:
    """An error in the shape of PostgREST's, so that pages show both in one way."""
    body = {"code": f"PT{status}", "message": message, "details": None, "hint": hint}
    return JSONResponse(body, status_code=status, headers=HEADERS.get(status))
