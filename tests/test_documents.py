"""The documents say what is true: commands that exist, defaults as they are, links that lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typer.core import TyperGroup

from cli.main import app
from local.stack import PROJECT
from services.billing.settings import BillingSettings
from services.email.settings import EmailSettings
from services.images.engines.settings import EngineSettings
from services.images.settings import WorkerSettings
from services.maintenance.settings import MaintenanceSettings

PAGES = sorted(
    path for path in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), *(PROJECT / "examples").glob("*.md")]
)
SETTINGS: tuple[type[BaseSettings], ...] = (
    BillingSettings,
    EmailSettings,
    EngineSettings,
    MaintenanceSettings,
    WorkerSettings,
)


def commands(text: str) -> Iterator[str]:
    """What a page tells to type: lines of its shell snippets, and commands within a sentence."""
    for snippet in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in re.sub(r"\\\n\s*", "", snippet).splitlines():
            yield from re.findall(r"(?:^|\s|\()((?:\.venv/bin/)?dtf .*)", line)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (code for code in re.findall(r"`([^`]+)`", prose) if code.startswith(("dtf ", ".venv/bin/dtf ")))


def words(command: str) -> list[str]:
    """The arguments of `dtf`, up to where another command begins or a sentence leaves them open."""
    lexer = shlex.shlex(command.replace("<", "").replace(">", " > "), posix=True, punctuation_chars="|;&()")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if re.fullmatch(r"[|;&>()]+", word) or "…" in word:
            break
        found.append(word)
    return found[1:]


def check(arguments: list[str]) -> None:
    """Raise what the command line itself raises for a command or an option that there is not."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name="dtf")
    arguments, name = [*arguments], "dtf"
    while isinstance(command, TyperGroup) and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        command = command.get_command(context, name)
        if command is None:
            raise typer.BadParameter(f"there is no {name}")
        context = typer.Context(command, parent=context, info_name=name)
    if name != "supabase":  # which passes on what it is given
        command.make_parser(context).parse_args(arguments)


def test_every_command_of_the_documents_exists() -> None:
    told = [(path.name, command) for path in PAGES for command in commands(path.read_text("utf-8"))]
    assert len(told) > 50
    wrong = []
    for page, command in told:
        try:
            check(words(command))
        except typer.TyperException as error:
            wrong.append(f"{page}: {command}: {error.message}")
    assert wrong == []


@pytest.mark.parametrize("command", ["dtf upp", "dtf up --prot 1", "dtf credits gift ada 5"])
def test_a_command_that_there_is_not_is_found(command: str) -> None:
    with pytest.raises(typer.TyperException):
        check(words(command))


def variables() -> dict[str, Any]:
    """Default values by the variables that the services read."""
    found: dict[str, Any] = {}
    for settings in SETTINGS:
        for name, field in settings.model_fields.items():
            alias = field.validation_alias
            first = alias.choices[0] if alias is not None and not isinstance(alias, str) else None  # type: ignore[union-attr]
            variable = str(first or f"{settings.model_config.get('env_prefix', '')}{name}").upper()
            found[variable] = "made" if field.default_factory else field.default
    return found


def told_defaults(text: str) -> Iterator[tuple[str, str]]:
    """The variables in a page's tables with the default that stands beside each: in the next cell, or in brackets."""
    for row in re.findall(r"^\| (`[A-Z_]+`.*) \|$", text, re.MULTILINE):
        first, second, *rest = [cell.strip() for cell in row.split(" | ")] + [""]
        names = re.findall(r"`([A-Z_]+)`", first)
        in_brackets = re.search(r"\((.*)\)", first)
        if in_brackets or rest != [""]:
            yield from zip(names, (in_brackets[1] if in_brackets else second).split(", "), strict=False)


def test_defaults_in_the_documents_are_those_of_the_services() -> None:
    known = variables()
    pages = {path.name: path.read_text("utf-8") for path in PAGES}
    told = [(page, *pair) for page, text in pages.items() for pair in told_defaults(text)]
    assert len(told) > 20
    for page, name, default in told:
        assert name in known, f"{page}: nothing reads {name}"
        actual = known[name]
        if re.fullmatch(r"[\d.]+", default):
            assert str(actual).removesuffix(".0") == default, f"{page}: {name}"
        elif default == "needed":
            assert actual is PydanticUndefined, f"{page}: {name}"
        elif default in ("off", "none", "all"):
            assert actual in (None, ()), f"{page}: {name}"


def test_every_variable_of_the_services_is_told() -> None:
    text = "\n".join(path.read_text("utf-8") for path in PAGES)
    internal = {"ENGINE_THREADS"}  # the worker sets it for its children
    assert sorted(name for name in variables() if name not in internal and name not in text) == []


def anchors(path: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_within_the_documents_leads_somewhere() -> None:
    lost = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                lost.append(f"{page.name}: {link}")
    assert lost == []


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))
    told = {
        (page.name, target)
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert told
    assert {pair for pair in told if pair[1] not in targets} == set()
