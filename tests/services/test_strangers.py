"""What strangers send to the services, as processes: bodies that never end, and requests that nobody means."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

import httpx
import psutil
import pytest

from local.stack import Stack
from local.stripe import WEBHOOK_SECRET, signed
from services.billing.app import LARGEST_EVENT
from services.connections import CONNECTIONS
from services.email.app import LARGEST_DELIVERY
from services.email.events import SIGNATURE_HEADER, TIMESTAMP_HEADER
from tests.billing.service_process import ServiceProcess
from tests.email.email_process import EmailProcess
from tests.email.signer import Signer
from tests.services.hostile_requests import hostile_requests
from tests.services.strangers import Stranger, flood, tracebacks

STRANGERS = 300
MIB = 1024 * 1024
Headers = dict[str, str]


@dataclass
class Service:
    """A running service: where it takes what is signed, up to which length, and what an honest sender posts there."""

    process: int
    log: Path
    url: str
    path: str
    limit: int
    forged: Headers
    body: bytes
    headers: Headers = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def honest(self) -> int:
        """The status that an honest sender gets."""
        return httpx.post(self.url + self.path, content=self.body, headers=self.headers, timeout=10).status_code


@contextmanager
def billing(stack: Stack, log: Path) -> Iterator[Service]:
    event = {"id": "evt_flood", "type": "ping", "livemode": False, "data": {"object": {"id": "x_1"}}}
    body, signature = signed(event, WEBHOOK_SECRET)
    with ServiceProcess(stack.state, "http://127.0.0.1:9", log) as process:
        assert process.process is not None
        forged = {"stripe-signature": f"t={int(time.time())},v1=00"}
        headers = {"stripe-signature": signature}
        path = "/webhooks/stripe"
        yield Service(process.process.pid, log, process.url, path, LARGEST_EVENT, forged, body, headers)


@contextmanager
def email(stack: Stack, log: Path) -> Iterator[Service]:
    status, signer = stack.status(), Signer()
    assert status is not None
    body, headers = signer.deliver()
    settings = {"SENDGRID_WEBHOOK_PUBLIC_KEY": signer.public_key}
    with EmailProcess(status, "http://127.0.0.1:9", log, **settings) as process:
        forged = {SIGNATURE_HEADER: "MEUCIQ==", TIMESTAMP_HEADER: str(int(time.time()))}
        path = "/webhooks/sendgrid"
        yield Service(process.process.pid, log, process.url, path, LARGEST_DELIVERY, forged, body, headers)
        assert process.end() == 0


@pytest.mark.parametrize("start", [billing, email])
def test_strangers_fill_no_memory_and_bar_nobody(
    local_stack: Stack, tmp_path: Path, start: Callable[[Stack, Path], AbstractContextManager[Service]]
) -> None:
    with start(local_stack, tmp_path / "log") as service:
        files = psutil.Process(service.process).num_fds()
        for headers, most in (({}, 30), (service.forged, 110)):
            with flood(service.port, service.process, service.path, service.limit, headers, STRANGERS) as told:
                began = time.monotonic()
                assert service.honest() == 200
                assert psutil.Process(service.process).num_fds() < files + CONNECTIONS + 10
                print(f"honest: {time.monotonic() - began:.2f} s")
            print(
                f"{told.before / MIB:.0f} to {told.most / MIB:.0f} MiB, {told.sent / MIB:.0f} MiB sent", told.refusals
            )
            assert told.growth < most * MIB
            assert told.refusals <= {400, 503, None}
        assert service.honest() == 200
    assert tracebacks(service.log) == 0


PATHS = ["/unsubscribe", "/webhooks/stripe", "/webhooks/sendgrid", "/checkout", "/portal", "/healthz", "/metrics"]


@pytest.mark.parametrize("start", [billing, email])
def test_no_request_of_a_stranger_is_an_error_of_ours(
    local_stack: Stack, tmp_path: Path, start: Callable[[Stack, Path], AbstractContextManager[Service]]
) -> None:
    with start(local_stack, tmp_path / "log") as service:
        for request in hostile_requests(PATHS):
            with Stranger(service.port, request) as stranger:
                answer = HTTPResponse(stranger.socket)
                answer.begin()
                assert answer.status < 500, (request, answer.read())
                assert answer.getheader("location") is None, request
                answer.read()
        assert service.honest() == 200
        assert httpx.get(f"{service.url}/metrics").status_code == 200
    assert tracebacks(service.log) == 0
