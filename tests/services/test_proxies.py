"""Proxies of the environment: for the world, and never for this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.proxies import ProxyError, spare_loopback
from tests.services.test_connections import Server

# Every client that the services and `dtf` have, on an address of this machine.
ASK = """
import asyncio, json, sys, urllib.request
import httpx, openai, stripe, websockets.uri
from services.proxies import spare_loopback

spare_loopback()
url = sys.argv[1]

async def ask():
    async with httpx.AsyncClient() as http:
        return (await http.get(url)).text

openai.AsyncOpenAI(api_key="x")
stripe.HTTPXClient()
told = [httpx.get(url).text, asyncio.run(ask()), urllib.request.urlopen(url).read().decode()]
told += [str(httpx.get(url.replace("127.0.0.1", "localhost")).text)]
told += [websockets.uri.get_proxy(websockets.uri.parse_uri(url.replace("http", "ws")))]
print(json.dumps(told))
"""


@pytest.fixture
def url() -> Iterator[str]:
    with Server() as server:
        yield f"http://127.0.0.1:{server.port}/"


@pytest.mark.parametrize(
    "proxies",
    [
        {"http_proxy": "http://127.0.0.1:9"},
        {"HTTP_PROXY": "127.0.0.1:9", "HTTPS_PROXY": "127.0.0.1:9", "NO_PROXY": ".example.com, "},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "socks://127.0.0.1:9/", "http_proxy": "socks5h://127.0.0.1:9"},
        {"http_proxy": "http://127.0.0.1:9", "no_proxy": "*"},
    ],
    ids=str,
)
def test_no_client_sends_what_is_for_this_machine_elsewhere(url: str, proxies: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", ASK, url], env=os.environ | proxies, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["0", "0", "0", "0", None]


def test_what_the_environment_says_of_others_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"https_proxy": "http://proxy:3128", "NO_PROXY": "a.example,10.0.0.0/8"})
    for _ in range(2):
        spare_loopback()
    told = "a.example,10.0.0.0/8,127.0.0.1,::1,localhost"
    assert os.environ == {"https_proxy": "http://proxy:3128", "no_proxy": told, "NO_PROXY": told}
    for others in ({"no_proxy": "a.example"}, {"no_proxy": "*", "all_proxy": "socks5://proxy"}):
        monkeypatch.setattr(os, "environ", dict(others))
        spare_loopback()
        assert os.environ == others


@pytest.mark.parametrize("proxy", ["socks4://127.0.0.1:9", "ftp://127.0.0.1", "SOCKS4A://x"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setattr(os, "environ", {"HTTPS_PROXY": proxy})
    with pytest.raises(ProxyError, match="HTTPS_PROXY cannot be used: a proxy is one of http://, https://, socks5://"):
        spare_loopback()


def test_a_service_with_such_a_proxy_does_not_start() -> None:
    command = [sys.executable, "-m", "services.maintenance"]
    done = subprocess.run(command, env=os.environ | {"all_proxy": "socks4://x"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("all_proxy cannot be used")
