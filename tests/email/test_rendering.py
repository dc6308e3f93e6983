"""What a template becomes: escaped, under the letterhead, readable as text, and refused where it lacks something."""

from html.parser import HTMLParser

import pytest

from services.email.rendering import Content, Letterhead, RenderingError, links, render

LETTERHEAD = Letterhead("DTF Editor", "12 Print Street, Berlin")
DATA = {"first_name": "Ada", "email": "ada@example.com", "app_url": "https://app.example.com"}
HTML = '<h1>Hi</h1><p>Hello {{ first_name }},<br>welcome.</p><p><a class="button" href="{{ app_url }}/#/x">Open</a></p>'


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)


def tags(html: str) -> set[str]:
    reader = Tags()
    reader.feed(html)
    return reader.names


def content(html: str = HTML, subject: str = "Hello", text: str | None = None, category: str = "essential") -> Content:
    return Content(category, subject, html, text)


def test_the_text_is_made_from_the_html_where_a_template_has_none() -> None:
    mail = render(
        content(HTML + "<table><tr><th>Paid</th><td>$5</td></tr></table><ul><li>one<li>two</ul>"), DATA, LETTERHEAD
    )
    assert mail.text == (
        "Hi\n\nHello Ada,\nwelcome.\n\nOpen: https://app.example.com/#/x\n\nPaid: $5\n\n- one\n- two\n\n"
        "-- \nDTF Editor\n12 Print Street, Berlin\nhttps://app.example.com\n"
    )
    assert render(content(text="Just {{ first_name }}"), DATA, LETTERHEAD).text.startswith("Just Ada\n\n-- \n")


def test_styles_are_inlined_and_those_for_dark_windows_and_phones_stay() -> None:
    html = render(content(), DATA, LETTERHEAD).html
    assert 'class="button" href="https://app.example.com/#/x" style="' in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media (max-width: 480px)" in html
    assert links(html) == ["https://app.example.com", "https://app.example.com/#/x"]


def test_what_people_wrote_is_text_and_nothing_else() -> None:
    name = 'A <script>alert(1)</script> "&" \r\nBcc: eve@example.com\u202e'
    mail = render(content(subject="Hi {{ first_name }}"), DATA | {"first_name": name}, LETTERHEAD)
    assert "&lt;script&gt;" in mail.html
    assert "script" not in tags(mail.html)
    assert mail.subject == 'Hi A <script>alert(1)</script> "&" Bcc: eve@example.com'
    assert "\nBcc" not in mail.text
    again = render(content(text="{{ first_name }}"), DATA | {"first_name": "{{ email }}"}, LETTERHEAD)
    assert again.text.startswith("{{ email }}"), "values are no templates"


def test_only_marketing_mails_carry_the_link_to_unsubscribe() -> None:
    data = DATA | {"unsubscribe_url": "https://mail.example.com/unsubscribe?token=x"}
    mail = render(content(category="marketing"), data, LETTERHEAD)
    assert data["unsubscribe_url"] in links(mail.html)
    assert f"Unsubscribe: {data['unsubscribe_url']}" in mail.text
    for category in ("essential", "notification"):
        assert "unsubscribe" not in render(content(category=category), data, LETTERHEAD).html.lower()


def test_inboxes_show_the_first_paragraph_beside_the_subject() -> None:
    html = render(content(f"<h1>Title</h1><p>First {'word ' * 50}</p>"), DATA, LETTERHEAD).html
    preview = html.partition('<div class="preview"')[2].partition(">")[2]
    assert preview.startswith("First word word")
    assert preview.partition("…")[1], "the preview is cut at a word"


@pytest.mark.parametrize(
    ("field", "template"),
    [
        ("subject", content(subject="{{ nobody }}")),
        ("html_content", content("{% if nobody %}x{% endif %}")),
        ("text_content", content(text="{{ first_name")),
        ("html_content", content("{{ first_name.__class__.__mro__ }}")),
    ],
)
def test_what_cannot_be_rendered_is_named(field: str, template: Content) -> None:
    with pytest.raises(RenderingError, match=f"^{field}: "):
        render(template, DATA, LETTERHEAD)
