"""The pages of the mailbox, for people, and a little of Mailpit's API, for tests that run on both kinds of stack.

No page runs a script. The HTML of a mail stands in a frame of its own whose policy runs nothing and fetches nothing.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from local.mailbox.folder import Folder
from local.mailbox.reading import HEADER_BYTES, Mail, Summary, name_and_address, read_mail, summarize

HERE = Path(__file__).parent
ON_A_PAGE = 100
VIEWS = ("html", "text", "headers")

COMMON = {
    "cache-control": "no-store",
    # A browser that is told no referrer does not say either who sends the form that deletes.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-dns-prefetch-control": "off",
}
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
# Links open in a window of their own, without this policy's sandbox: they are there to be tried.
SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none';"
    f" frame-ancestors 'self'; sandbox {SANDBOX}"
)
# What stands before the mail makes its own doctype void and its links open outside the frame.
MAIL_HEAD = '<!doctype html><base target="_blank">'


class Pages:
    """The routes."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._summaries: dict[str, Summary] = {}
        self._templates = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
        self.routes = [
            Route("/", self._list),
            Route("/mails/{id}", self._mail),
            Route("/mails/{id}/html", self._html),
            Route("/mails/{id}/raw", self._raw),
            Route("/delete", self._delete, methods=["POST"]),
            Route("/style.css", self._style),
            Route("/healthz", self._healthz),
            Route("/api/v1/search", self._search),
            Route("/api/v1/message/{id}", self._message),
        ]

    def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def _style(self, _: Request) -> Response:
        return FileResponse(HERE / "style.css", headers=COMMON)

    def _list(self, request: Request) -> Response:
        """GET /?to=…&before=…: a page of the list, of mails to an address that contains a text."""
        to, before = request.query_params.get("to", "").strip(), request.query_params.get("before", "")
        found = self._find(to)
        shown = [mail for mail in found if not before or mail.id < before]
        return self._page(
            "list.html",
            mails=shown[:ON_A_PAGE],
            total=len(found),
            to=to,
            older=shown[ON_A_PAGE - 1].id if len(shown) > ON_A_PAGE else None,
            is_first=not before,
        )

    def _mail(self, request: Request) -> Response:
        """GET /mails/{id}?view=…: a mail, its HTML, its text or its headers."""
        found = self._read(request)
        if found is None:
            return self._page("missing.html", status=404)
        summary, mail = found
        view = request.query_params.get("view", "")
        if view not in VIEWS:
            view = "text" if mail.html is None else "html"
        return self._page("mail.html", summary=summary, mail=mail, view=view, views=VIEWS, sandbox=SANDBOX)

    def _html(self, request: Request) -> Response:
        """GET /mails/{id}/html: what stands in the frame."""
        found = self._read(request)
        html = found[1].html if found else None
        if html is None:
            return PlainTextResponse("There is no such mail, or it has no HTML.", 404, COMMON)
        return HTMLResponse(MAIL_HEAD + html, headers={**COMMON, "content-security-policy": MAIL_POLICY})

    def _raw(self, request: Request) -> Response:
        """GET /mails/{id}/raw: the file."""
        content = self._folder.read(request.path_params["id"])
        if content is None:
            return PlainTextResponse("There is no such mail.", 404, COMMON)
        name = f'attachment; filename="{request.path_params["id"]}.eml"'
        headers = {**COMMON, "content-disposition": name, "content-security-policy": MAIL_POLICY}
        return Response(content, media_type="message/rfc822", headers=headers)

    def _delete(self, request: Request) -> Response:
        """POST /delete: all of them. Other sites' pages may send forms here too, and say so."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
            return PlainTextResponse("Only the mailbox's own page may ask for this.", 403, COMMON)
        self._folder.clear()
        return RedirectResponse("/", 303, COMMON)

    def _search(self, request: Request) -> Response:
        """GET /api/v1/search?query=to:ada@example.com, of Mailpit's queries the one that tests ask."""
        key, _, to = request.query_params.get("query", "").partition(":")
        if key != "to" or not to:
            return JSONResponse({"Error": "Only queries such as to:ada@example.com are understood here."}, 400)
        found = self._find(to)
        return JSONResponse({"total": len(found), "messages": [_as_json(mail) for mail in found[:ON_A_PAGE]]})

    def _message(self, request: Request) -> Response:
        """GET /api/v1/message/{ID}, as Mailpit answers it."""
        found = self._read(request)
        if found is None:
            return JSONResponse({"Error": "There is no such mail."}, 404)
        summary, mail = found
        return JSONResponse(_as_json(summary) | {"HTML": mail.html or "", "Text": mail.text or ""})

    def _find(self, to: str) -> list[Summary]:
        """Mails to an address that contains a text, the newest first."""
        summaries = {}
        for mail in self._folder.ids():
            known = self._summaries.get(mail)
            if known is None:
                head = self._folder.read(mail, HEADER_BYTES)
                if head is None:  # deleted meanwhile
                    continue
                known = summarize(mail, head)
            summaries[mail] = known
        self._summaries = summaries
        wanted = to.lower()
        return [mail for mail in summaries.values() if any(wanted in address.lower() for address in mail.recipients)]

    def _read(self, request: Request) -> tuple[Summary, Mail] | None:
        mail = request.path_params["id"]
        content = self._folder.read(mail)
        return (summarize(mail, content[:HEADER_BYTES]), read_mail(content)) if content is not None else None

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        html = self._templates.get_template(template).render(**values)
        return HTMLResponse(html, status, headers={**COMMON, "content-security-policy": PAGE_POLICY})


def _as_json(mail: Summary) -> dict[str, Any]:
    name, address = name_and_address(mail.sender)
    return {
        "ID": mail.id,
        "Created": mail.received_at.isoformat(),
        "From": {"Name": name, "Address": address},
        "To": [{"Name": "", "Address": recipient} for recipient in mail.recipients],
        "Subject": mail.subject,
    }


def make_app(folder: Folder) -> Starlette:
    """Make the app. It answers to names of this machine only: no site can lead its own name here to read mails."""
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)
    return Starlette(routes=Pages(folder).routes, middleware=[hosts])
