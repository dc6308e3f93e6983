"""How commands speak: to people on a terminal, to programs in JSON, and of errors with one message and status 1."""

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.errors import CommandError
from local.errors import StackError

# Who wants no colours wants nothing that moves either.
IS_TERMINAL = False if os.environ.get("NO_COLOR") else None  # None: as it is found

console = Console(force_terminal=IS_TERMINAL)
errors = Console(stderr=True, force_terminal=IS_TERMINAL)

# As PostgREST writes it: 2026-11-22T08:34:04.71+00:00
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)\S*")

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

LONGEST_LINE = 10_000  # characters

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def fail(error: Exception) -> NoReturn:
    """Print one message and end with status 1."""
    errors.print(f"[red]✗[/red] {plain(error)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn the errors that a person can act on into one message and status 1."""
    try:
        yield
    except (CommandError, StackError) as error:
        fail(error)
    except PermissionError as error:
        fail(CommandError(f"{error.filename} is not yours to use: {error.strerror}. Check whose folder it is."))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        fail(
            CommandError(
                f"{error.filename or 'A file'} could not be written: {error.strerror}. Make room, and try again."
            )
        )


def done(message: str) -> None:
    """Tell a person that something was done; not on standard output, which may be read by a program."""
    errors.print(f"[green]✓[/green] {plain(message)}", highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """Tell a person what may need something to be done."""
    errors.print(f"[yellow]![/yellow] {plain(message)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value for programs, in ASCII: what users wrote cannot steer the terminal."""
    typer.echo(json.dumps(value, indent=2))


def plain(value: Any) -> str:
    """A value as text that is neither markup nor, as control characters would be, a command to the terminal."""
    return escape(
        "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))
    )


def print_rows(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> None:
    """Print rows as a table; `columns` maps their keys to headings.

    Nothing is cut, because the next command needs an id as a whole: a narrow terminal breaks the lines.
    """
    if not rows:
        errors.print("None.", style="dim")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns))
    uncut = Console(width=LONGEST_LINE)
    with uncut.capture() as captured:
        uncut.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_facts(facts: dict[str, Any]) -> None:
    """Print names and values as two columns."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/bold]", _cell(value))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Times to the second.
    time = TIME.fullmatch(str(value))
    return f"{time[1]} {time[2]}" if time else plain(value)
