"""From a template and its data to a mail: a subject, HTML in the common layout with its styles inlined, and text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import css_inline
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

# Read with the program: where files have run out, the first mail could not be made.
LAYOUT = Path(__file__).with_name("layout.html").read_text(encoding="utf-8")
PREVIEW_CHARACTERS = 110
"""Inboxes show about as much of a mail beside its subject."""

BUTTON = re.compile(r'(<a\b[^>]*\bclass="button"[^>]*>)(.*?)(</a>)', re.DOTALL)
# Outlook for Windows draws no padding around a link; these spaces, which only it sees, stand in for it.
OUTLOOK_PADDING = (
    r'\1<!--[if mso]><i style="mso-font-width:200%;mso-text-raise:20pt" hidden>&emsp;</i>'
    r'<span style="mso-text-raise:10pt"><![endif]-->\2'
    r'<!--[if mso]></span><i style="mso-font-width:200%" hidden>&emsp;&#8203;</i><![endif]-->\3'
)
BLOCKS = frozenset({"blockquote", "div", "h1", "h2", "h3", "h4", "hr", "li", "ol", "p", "table", "tr", "ul"})
CELLS = frozenset({"td", "th"})
UNREAD = frozenset({"script", "style", "title"})
# Line breaks, other control characters and those that turn the direction of writing.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class RenderingError(ValueError):
    """A template cannot be rendered; the message names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What every mail says of who sends it."""

    brand: str
    postal_address: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """A row of `email_templates`. A `text_content` of None means: made from the HTML."""

    category: str
    """As in `email_types`: `essential`, `notification` or `marketing`; it decides the foot of the mail."""
    subject: str
    html_content: str
    text_content: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A mail as it is sent."""

    subject: str
    html: str
    text: str


def render(content: Content, data: Mapping[str, Any], letterhead: Letterhead) -> Rendered:
    """Fill in a template. `data` holds the common variables too: `email`, `app_url`, for marketing `unsubscribe_url`.

    Values are escaped in the HTML and stand as they are in subject and text, each on one line. Raises RenderingError,
    for example where the template names something that `data` lacks.
    """
    data = {name: UNPRINTABLE.sub(" ", value) if isinstance(value, str) else value for name, value in data.items()}
    # A line break would end the header.
    subject = " ".join(_fill("subject", content.subject, data).split())
    inner = _fill("html_content", content.html_content, data)
    blocks = _blocks(inner)
    text = "\n\n".join(block for _, block in blocks)
    if content.text_content is not None:
        text = _fill("text_content", content.text_content, data).strip()
    surroundings = {
        **{name: data.get(name, "") for name in ("app_url", "email", "unsubscribe_url")},
        "brand": letterhead.brand,
        "postal_address": letterhead.postal_address,
        "category": content.category,
    }
    html = _layout().render(
        surroundings,
        subject=subject,
        preview=_preview(blocks),
        content=Markup(BUTTON.sub(OUTLOOK_PADDING, inner)),  # noqa: S704
    )
    return Rendered(subject, _inliner().inline(html), f"{text}\n\n{_text_foot(surroundings)}\n")


def links(html: str) -> list[str]:
    """Where the links of a mail lead, in their order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.links


def _fill(field: str, source: str, data: Mapping[str, Any]) -> str:
    try:
        return _compile(source, is_html=field == "html_content").render(data)
    except (TemplateError, TypeError) as error:
        raise RenderingError(f"{field}: {error}") from error


@lru_cache(maxsize=256)
def _compile(source: str, *, is_html: bool) -> Template:
    return _environment(is_html).from_string(source)


@cache
def _environment(is_html: bool) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        autoescape=is_html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )


@cache
def _layout() -> Template:
    return _environment(True).from_string(LAYOUT)


@cache
def _inliner() -> css_inline.CSSInliner:
    # Nothing that a template names is fetched, neither from the network nor from the disk.
    return css_inline.CSSInliner(load_remote_stylesheets=False)


def _text_foot(surroundings: Mapping[str, str]) -> str:
    """The foot of the mail as text, behind the separator that mail programs know."""
    lines = ["-- ", surroundings["brand"], surroundings["postal_address"], surroundings["app_url"]]
    if surroundings["category"] == "marketing":
        lines.append(f"Unsubscribe: {surroundings['unsubscribe_url']}")
    return "\n".join(line for line in lines if line)


def _preview(blocks: list[tuple[str, str]]) -> str:
    """What inboxes show beside the subject: the beginning of the first paragraph."""
    first = next((" ".join(text.split()) for tag, text in blocks if tag == "p"), "")
    if len(first) <= PREVIEW_CHARACTERS:
        return first
    return first[: PREVIEW_CHARACTERS - 1].rsplit(" ", 1)[0] + "…"


def _blocks(html: str) -> list[tuple[str, str]]:
    """Paragraphs, headings, lists and tables as text, each with its tag."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.ended()


class _Reader(HTMLParser):
    """Reads HTML as a person without pictures would: links with their address, rows of a table as lines."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self._blocks: list[tuple[str, str]] = []
        self._tag = "p"
        self._text = ""
        self._href = ""
        self._link_start = 0
        self._cells = 0
        self._is_unread = False

    def ended(self) -> list[tuple[str, str]]:
        """The blocks, lines of one table or list as one block."""
        self._end_block()
        merged: list[tuple[str, str]] = []
        for tag, text in self._blocks:
            if merged and tag in ("tr", "li") and merged[-1][0] == tag:
                merged[-1] = (tag, f"{merged[-1][1]}\n{text}")
            else:
                merged.append((tag, text))
        return merged

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self._end_block()
            self._tag = tag
            self._text = "- " if tag == "li" else ""
        elif tag in CELLS:
            self._text = self._text.rstrip() + (": " if self._cells else "")
            self._cells += 1
        elif tag == "br":
            self._text += "\n"
        elif tag == "a":
            self._href = dict(attrs).get("href") or ""
            self.links.append(self._href)
            self._link_start = len(self._text)
        elif tag == "img":
            self._text += dict(attrs).get("alt") or ""
        elif tag in UNREAD:
            self._is_unread = True

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS:
            self._end_block()
        elif tag in UNREAD:
            self._is_unread = False
        elif tag == "a" and self._href:
            words = self._text[self._link_start :].strip()
            if words != self._href:
                self._text += f": {self._href}" if self._link_start == 0 else f" ({self._href})"
            self._href = ""

    def handle_data(self, data: str) -> None:
        if self._is_unread:
            return
        text = re.sub(r"\s+", " ", data)
        self._text += text.lstrip() if not self._text or self._text.endswith((" ", "\n")) else text

    def _end_block(self) -> None:
        text = "\n".join(line.strip() for line in self._text.splitlines()).strip()
        if text and text != "-":
            self._blocks.append((self._tag, text))
        self._tag, self._text, self._cells = "p", "", 0
