"""Templates: their language, checked when they are saved, and which names belong to which type."""

import json
from uuid import uuid4

import pytest

from tests.database.outbox import COMMON
from tests.database.personas import Connection, People, refused

INSERT = (
    "insert into public.email_templates (name, type, subject, html_content, text_content) values (%s, %s, %s, %s, %s)"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello",
        "Hello {{ first_name }}, {{first_name}}, {{   first_name   }}!",
        "{% if first_name %}Hello {{ first_name }}{% endif %}",
        "{%if first_name%}a{%else%}b{%endif%}",
        "{% if  not  first_name %}a{% if credits %}b{% else %}c{% endif %}{% else %}d{% endif %}",
        "{% if first_name %}\n{{ credits }}\n{% else %}\n{{ plan }}\n{% endif %}\n",
        "{% if plan %}" * 20 + "{% endif %}" * 20,
        "<style>.a { color: red } .b { color: blue }</style> 100 % of {braces} } and {",
    ],
)
def test_a_template_may_use_the_names_of_its_type_and_conditions(people: People, text: str) -> None:
    with people.new(is_admin=True).trying() as connection:
        connection.execute(INSERT, (str(uuid4()), "campaign", "x", text, text))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{{ nobody }}", 1, "there is no variable nobody"),
        ("a\n\n{{ balance }}", 3, "there is no variable balance"),
        ("{% if nobody %}{% endif %}", 1, "there is no variable nobody"),
        ("a\n{% if plan %}\nb", 2, "this if has no end"),
        ("{% if plan %}\n{% if credits %}{% endif %}", 1, "this if has no end"),
        ("a\n{% endif %}", 2, "{% endif %} without its if"),
        ("{% if plan %}a{% endif %}{% else %}", 1, "{% else %} without its if"),
        ("{% if plan %}a{% else %}b\n{% else %}c{% endif %}", 2, "{% else %} without its if"),
        ("{{ plan", 1, "{{ is not part of the language"),
        ("plan }}", 1, "}} is not part of the language"),
        ("{{ plan\n}}", 1, "{{ is not part of the language"),
        ("{{ { plan } }}", 1, "is not part of the language"),
        ("{{{ plan }}}", 1, "is not part of the language"),
        ("{{ plan | upper }}", 1, "{{ plan | upper }} is not part of the language"),
        ("{{ plan.name }}", 1, "is not part of the language"),
        ("{{ plan() }}", 1, "is not part of the language"),
        ("{{ 'plan' }}", 1, "is not part of the language"),
        ("{{ Plan }}", 1, "is not part of the language"),
        ("{{- plan -}}", 1, "is not part of the language"),
        ("{{ }}", 1, "is not part of the language"),
        ("{{ self.__init__.__globals__ }}", 1, "is not part of the language"),
        ("{# note #}", 1, "{# is not part of the language"),
        ("{% for x in plan %}{% endfor %}", 1, "is not part of the language"),
        ("{% if plan and credits %}{% endif %}", 1, "is not part of the language"),
        ("{% elif plan %}", 1, "is not part of the language"),
        ("{% include 'x' %}", 1, "is not part of the language"),
        ("{% raw %}", 1, "is not part of the language"),
        ("{% if plan %", 1, "{% is not part of the language"),
        ("{%- if plan -%}{%- endif -%}", 1, "is not part of the language"),
        ("{% if plan %}\n" * 21 + "{% endif %}" * 21, 21, "more than 20 conditions within each other"),
    ],
)
@pytest.mark.parametrize("field", ["html_content", "text_content"])
def test_anything_else_is_refused_with_its_place(
    people: People, field: str, text: str, line: int, message: str
) -> None:
    texts = {"html_content": "x", "text_content": "x"} | {field: text}
    with people.new(is_admin=True).trying() as connection, refused("PT400", f"{field}, line {line}: ") as caught:
        connection.execute(INSERT, (str(uuid4()), "campaign", "x", *texts.values()))
    assert message in caught.value.diag.message_primary
    detail = json.loads(caught.value.diag.message_detail)
    assert (detail["field"], detail["line"]) == (field, line)


@pytest.mark.parametrize("subject", ["", "  ", "a\nb", "a\rb", "x" * 201, "{{ nobody }}", "{% if plan %}"])
def test_a_subject_is_one_line_of_the_same_language(people: People, subject: str) -> None:
    with people.new(is_admin=True).trying() as connection, refused("PT400", "subject"):
        connection.execute(INSERT, (str(uuid4()), "campaign", subject, "x", None))


def test_what_is_true_or_false_is_asked_for_and_not_printed(people: People) -> None:
    admin = people.new(is_admin=True)
    update = "update public.email_templates set subject = %s where name = 'operation_failed'"
    with admin.trying() as connection:
        connection.execute(update, ("{% if is_refunded %}{{ credits }}{% endif %}",))
    with admin.trying() as connection, refused("PT400", "is_refunded is true or false"):
        connection.execute(update, ("{{ is_refunded }}",))


def test_a_long_text_is_refused(people: People) -> None:
    with people.new(is_admin=True).trying() as connection, refused("PT413", "100000 bytes"):
        connection.execute(INSERT, (str(uuid4()), "campaign", "x", "é" * 50_001, None))


@pytest.mark.parametrize(
    ("name", "type_", "message"),
    [
        ("mine", "receipt", "must be named receipt"),
        ("welcome", "receipt", "must be named receipt"),
        ("receipt", "campaign", "is that of a type of mail"),
        ("x", "nothing", "no type of mail nothing"),
        ("x", None, "no type of mail"),
    ],
)
def test_a_type_that_the_system_writes_has_one_template_with_its_name(
    people: People, name: str, type_: str | None, message: str
) -> None:
    with people.new(is_admin=True).trying() as connection, refused("PT400", message):
        connection.execute(INSERT, (name, type_, "x", "x", None))


def test_every_type_has_sample_data_with_what_all_mails_have(db: Connection) -> None:
    types = db.execute("select * from public.email_types").fetchall()
    assert types
    for row in types:
        assert set(row["sample_data"]) >= COMMON, row["name"]
        assert all(isinstance(value, str | bool) for value in row["sample_data"].values()), row["name"]


def test_the_seed_has_a_template_for_every_type(db: Connection) -> None:
    missing = db.execute(
        "select y.name from public.email_types as y where not exists"
        " (select from public.email_templates as t where t.type = y.name) and y.category <> 'marketing'"
    ).fetchall()
    assert missing == []
