"""The page where people unsubscribe: one question, one button, no script, nothing loaded from elsewhere."""

import base64
import hashlib
from html import escape

from starlette.responses import HTMLResponse

STYLE = """
:root { color-scheme: light dark; font: 18px/1.5 system-ui, sans-serif; }
body { max-width: 30rem; margin: 15vh auto 0; padding: 0 1.5rem;
  background: light-dark(#faf8f5, #131216); color: light-dark(#17161a, #f4f1ee); }
h1 { font-size: 1.5rem; line-height: 1.2; }
button { min-height: 3rem; padding: 0 1.5rem; border: 0; border-radius: 999px; font: inherit; font-weight: 600;
  background: light-dark(#17161a, #f4f1ee); color: light-dark(#fff, #17161a); cursor: pointer; }
a { color: light-dark(#c4006f, #ff7ac0); }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# The address carries the token: it is told to no other site, kept in no cache and found by no search.
HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}


def question(sender: str) -> HTMLResponse:
    """Asks, because programs that look into mails follow links too."""
    form = '<form method="post"><button>Unsubscribe</button></form>'
    return _page(200, f"No more news from {sender}?", f"<p>You will get no more news and offers by e-mail.</p>{form}")


def done(app_url: str) -> HTMLResponse:
    """Tells that it is done, and where the rest is chosen."""
    text = "You get no more news and offers. Mails about your account, such as receipts, still come."
    return _page(200, "You are unsubscribed", f"<p>{text}</p><p>{_account(app_url, 'Choose what you get')}</p>")


def forged(app_url: str) -> HTMLResponse:
    """The link is none of ours, or a mail program cut it."""
    text = "Open it from the mail once more, or choose what you get in your account."
    return _page(400, "This link is not complete", f"<p>{text}</p><p>{_account(app_url, 'To your account')}</p>")


def unavailable() -> HTMLResponse:
    """Nothing was changed."""
    answer = _page(503, "This did not work", "<p>You are still subscribed. Please try again in a minute.</p>")
    answer.headers["retry-after"] = "60"
    return answer


def _account(app_url: str, text: str) -> str:
    return f'<a href="{escape(app_url)}/#/account">{text}</a>'


def _page(status: int, title: str, body: str) -> HTMLResponse:
    title = escape(title)
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body><main><h1>{title}</h1>{body}</main></body>
</html>
"""
    return HTMLResponse(text, status, HEADERS)
