"""Requests that no program of ours sends: each was an unhandled error somewhere once, or looks as if it could be."""

import base64
import time
from collections.abc import Iterable, Iterator
from urllib.parse import quote


def part(text: str) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


DEEP = "[" * 5000
HEADS = ['{"alg":' * 900, '{"alg": {}}', '{"alg": "\ud800"}', '{"alg": "RS256", "kid": "%s"}' % ("k" * 4000), DEEP]
SIGNED_HEADS = ['{"alg": "HS256"}', '{"alg": "none"}', '{"alg": "ES256", "kid": []}']
TOKENS = [
    *(f"{part(head)}.{part('{}')}.{part('x')}" for head in HEADS),
    *(f"{part(head)}.{part(DEEP)}." for head in SIGNED_HEADS),
    *("..", "\xe9.\xe9.\xe9"),
]
QUERIES = [
    "",
    "?token",
    "?token=%",
    "?token=%ff%00",
    "?token=%ED%A0%80&token=2",
    "?select=%",
    "?select=a(b(c",
    "?id=in.(",
]
STRANGE_PATHS = ["//evil.example/%2f..", "/%00", "/%ff%fe", "/%", "/unsubscribe%0d%0aX:", "/..%2f..%2fetc/passwd", "*"]
BODIES = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b"1",
    b'"x"',
    DEEP.encode(),
    b'{"plan": ' * 1500,
    b'{"plan": ' + b"9" * 6000 + b"}",
    b'{"plan": "\\ud800"}',
    b'{"\\ud800": 1}',
    b'{"plan": "a\\u0000"}',
    b'{"\\u0000": 1}',
    b'{"success_url": "https://[::1"}',
]
HEADERS = [
    *("Host: evil.example", "Host: [::1", "Host: a@b:99999", "Host: \xe9", "Host:"),
    *("Origin: null", "Origin: \xe9", "Cookie: \xe9=\xe9", "Accept: \xe9", "Prefer: \xe9", "Range: 9-1"),
    *("Expect: 100-continue", "X-Forwarded-For: \xe9", "X-Forwarded-Proto: x", "X-Upsert: \xe9"),
    *("Content-Type: \xe9;charset=\xe9", "Content-Type: multipart/form-data", "Content-Encoding: gzip"),
    *("Authorization: \xe9", "Authorization: Bearer \xe9", "apikey: \xe9"),
    *("Stripe-Signature: \xe9", "Stripe-Signature: t=\xb2,v1=\xe9", f"Stripe-Signature: t={'9' * 5000},v1=0"),
    f"Stripe-Signature: t={int(time.time())},v1=\xe9",
    *(
        f"X-Twilio-Email-Event-Webhook-Signature: {signature}\r\nX-Twilio-Email-Event-Webhook-Timestamp: {timestamp}"
        for signature, timestamp in (("\xe9", "1"), ("MEUCIQ==", "\xb2"), ("MEUCIQ==", "9" * 12))
    ),
]


def hostile_requests(paths: Iterable[str], credentials: str = "X: y") -> Iterator[bytes]:
    """Requests to these paths and to strange ones; those that are about the body have these credentials."""
    paths = list(paths)
    for path in [*(f"{path}/" for path in paths), *STRANGE_PATHS]:
        yield request("GET", f"{path}?token=x", b"", credentials)
        yield request("POST", f"{path}?token=x")
    for path in paths:
        for query in [*QUERIES, *(f"?token={quote(token)}" for token in TOKENS)]:
            yield request("GET", path + query, b"", credentials)
            yield request("POST", path + query, b"", credentials)
        for body in BODIES:
            yield request("POST", path, body, f"{credentials}\r\nContent-Type: application/json")
        for token in TOKENS:
            yield request("POST", path, b"{}", f"Authorization: Bearer {token}")
        for header in HEADERS:
            yield request("GET", path, b"", header)
            yield request("POST", path, b"{}", f"{header}\r\n{credentials}")
            yield request("OPTIONS", path, b"", f"{header}\r\nAccess-Control-Request-Method: \xe9")


def request(method: str, target: str, body: bytes = b"", headers: str = "X: y") -> bytes:
    """A request in which nothing is escaped."""
    host = "" if headers.startswith("Host:") else "Host: x\r\n"
    rest = f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{method} {target} HTTP/1.1\r\n{host}{headers}\r\n{rest}".encode("latin-1") + body
