"""What strangers send to the gateway and to what is behind it: requests that nobody means."""

import time
from http.client import HTTPResponse
from urllib.parse import urlsplit

from local.stack import Stack, StackStatus
from tests.services.hostile_requests import hostile_requests, request
from tests.services.strangers import Stranger, tracebacks

PATHS = [
    "/rest/v1/profiles",
    "/rest/v1/rpc/quote_image_operation",
    "/auth/v1/signup",
    "/auth/v1/verify",
    "/auth/v1/callback",
    "/storage/v1/bucket",
    "/storage/v1/object/originals/x.png",
    "/storage/v1/object/copy",
    "/storage/v1/object/list/originals",
    "/storage/v1/object/sign/originals",
    "/storage/v1/object/sign/originals/x.png",
    "/realtime/v1/api/broadcast",
    "/realtime/v1/api/broadcast/a/events/b",
    "/realtime/v1/websocket",
    "/config.json",
]


def test_no_request_of_a_stranger_is_an_error_of_the_stack_s(local_stack: Stack, stack: StackStatus) -> None:
    port, key = urlsplit(stack.api_url).port or 0, stack.publishable_key
    for sent in hostile_requests(PATHS, f"apikey: {key}\r\nAuthorization: Bearer {key}"):
        with Stranger(port, sent) as stranger:
            answer = HTTPResponse(stranger.socket)
            answer.begin()
            assert answer.status < 500, (sent, answer.read())
            location = answer.getheader("location")
            assert location is None or location.startswith(f"{stack.api_url}/"), sent
            answer.read()
    Stranger(port, request("POST", "/realtime/v1/api/broadcast", b"{}", f"apikey: {key}")[:-1]).socket.close()
    time.sleep(0.5)
    assert tracebacks(local_stack.realtime.log) == 0
    assert local_stack.status() is not None
