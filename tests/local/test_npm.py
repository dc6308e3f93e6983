"""npm behind a company's proxy, whose certificate is nobody's but the machine's to know."""

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.certificates import self_signed

QUICK = ["--fetch-retries=1", "--fetch-retry-mintimeout=3000"]


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        version = {"name": "thing", "version": "1.2.3", "dist": {"tarball": "https://127.0.0.1/thing.tgz"}}
        body = json.dumps({"name": "thing", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": version}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed(tmp_path)


@pytest.fixture
def registry(certificate: Path) -> Iterator[str]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()


def view(registry: str, **environment: str) -> subprocess.Popen[str]:
    """Ask for the version of a package."""
    command = [sys.executable, "-m", "local.npm", "view", "thing", "version", f"--registry={registry}", *QUICK]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


def test_a_failure_is_shown_while_npm_tries_again(registry: str, tmp_path: Path) -> None:
    with view(registry, npm_config_cache=str(tmp_path / "cache")) as npm:
        assert npm.stderr is not None
        assert "attempt 1 failed with DEPTH_ZERO_SELF_SIGNED_CERT" in npm.stderr.readline()
        shown_at = time.monotonic()
        assert npm.poll() is None
        rest = npm.stderr.read()
    assert time.monotonic() - shown_at > 2
    assert npm.returncode == 1
    assert "npm error code DEPTH_ZERO_SELF_SIGNED_CERT" in rest


def test_the_machine_s_authorities_are_believed(registry: str, certificate: Path, tmp_path: Path) -> None:
    with view(registry, SSL_CERT_FILE=str(certificate), npm_config_cache=str(tmp_path / "cache")) as npm:
        assert npm.communicate() == ("1.2.3\n", "")
