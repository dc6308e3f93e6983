"""What the HTTP sides of services share: bodies of bounded size, and errors in the shape of PostgREST's."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

HEADERS = {429: {"retry-after": "60"}, 401: {"www-authenticate": "Bearer"}}


class WrongRequestError(Exception):
    """The request cannot be carried out; `status` is that of the answer, the message is for the caller."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.status = status
        self.hint = hint


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body, of at most `limit` bytes. Raises WrongRequestError."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise WrongRequestError(413, "The body is too large", f"Send at most {limit} bytes.")
    return bytes(body)


def error_answer(status: int, message: str, hint: str | None) -> Response:
    """An error in the shape of PostgREST's, so that pages show both in one way."""
    body = {"code": f"PT{status}", "message": message, "details": None, "hint": hint}
    return JSONResponse(body, status_code=status, headers=HEADERS.get(status))
