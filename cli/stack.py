"""`dtf up`, `down`, `status` and `logs`: the stack on this machine, and `dtf supabase`, the CLI of its maker."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from cli.output import console, done, errors, readable_errors, warn
from cli.run import still_running
from local import supabase_cli
from local.errors import StackError
from local.stack import PROJECT, DockerStack, Stack, StackStatus, running_stack

LOG_POLL_SECONDS = 0.3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, keys included, for programs.")]


def check_url(value: str | None) -> str | None:
    """The address of a service without a slash at its end; an empty one means none. Raises typer.BadParameter."""
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise typer.BadParameter("Give an address such as http://127.0.0.1:8080.")
    return value.rstrip("/")


def up(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the project URL. Default: any free port.")
    ] = None,
    billing_url: Annotated[
        str | None,
        typer.Option(
            envvar="BILLING_URL",
            callback=check_url,
            help="Where `dtf run billing` answers, for the web client: http://127.0.0.1:8080. Default: as last time.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the local stack, or mend it, and apply new migrations.

    Where `supabase start` runs (Docker), that stack is used instead.
    """
    with readable_errors():
        print_status(start_stack(port, billing_url), as_json)


def start_stack(port: int | None = None, billing_url: str | None = None) -> StackStatus:
    """The running stack with every migration applied: that of `supabase start`, else the embedded one."""
    with errors.status("Starting the local stack") as spinner:
        return DockerStack().up() or Stack().up(port, billing_url, lambda step: spinner.update(f"{step} …"))


def down() -> None:
    """Stop the stack. Its data stays (in .dtf/, or in Docker volumes)."""
    with readable_errors(), errors.status("Stopping the local stack"):
        official, embedded = DockerStack(), Stack()
        addresses = {embedded.state.api_url}
        if (running := official.status()) is not None:
            addresses.add(running.api_url)
            official.down()
        embedded.down()
    done("The local stack is stopped.")
    for name, pid in still_running(addresses):
        warn(f"dtf run {name} still runs and waits for a stack. To end it: kill {pid}")


def status(as_json: AsJson = False) -> None:
    """Tell where the stack answers. Status 1 where none runs."""
    with readable_errors():
        print_status(running_stack(), as_json)


def supabase(context: typer.Context) -> NoReturn:
    """Run the Supabase CLI of this checkout: dtf supabase link, dtf supabase db push …"""
    with readable_errors():
        path = supabase_cli.executable(PROJECT)
    os.execve(path, [str(path), *context.args], supabase_cli.environment())  # noqa: S606 - an argument list


def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines of each part to begin with.")] = 20,
) -> None:
    """Print the logs of the embedded stack's parts. Those of `supabase start` are in `docker logs`."""
    with readable_errors():
        paths = {part: path for part, path in Stack().logs().items() if path.exists()}
        if not paths:
            raise StackError("There are no logs yet. Start the stack with: dtf up")
    positions: dict[str, int] = {}
    for part, path in paths.items():
        text = path.read_text("utf-8", "replace")
        positions[part] = len(text.encode())
        print_lines(part, text.splitlines()[-lines:])
    while follow:
        time.sleep(LOG_POLL_SECONDS)
        for part, path in paths.items():
            positions[part] = print_new_lines(part, path, positions[part])


def print_new_lines(part: str, path: Path, position: int) -> int:
    """Print what was appended since `position` (bytes); returns the new position, at the end of a line."""
    with path.open("rb") as file:
        file.seek(position)
        complete, newline, _ = file.read().rpartition(b"\n")
    if not newline:
        return position
    print_lines(part, complete.decode(errors="replace").splitlines())
    return position + len(complete) + len(newline)


def print_lines(part: str, lines: list[str]) -> None:
    """Print log lines with the name of the part before each."""
    for line in lines:
        console.print(f"[cyan]{part:>8}[/cyan] │ ", end="", highlight=False)
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_status(stack: StackStatus, as_json: bool) -> None:
    """A table for people, one JSON object for programs. People see the secret key only as stars."""
    if as_json:
        typer.echo(json.dumps(stack.as_dict()))
        return
    facts = {
        "Web client": stack.web_url,
        "Mailbox": stack.mail_url,
        "Project URL": stack.api_url,
        "Database": stack.db_url.replace(f":{urlsplit(stack.db_url).password}@", ":•••@"),
        "Publishable key": stack.publishable_key,
        "Secret key": "•••  (dtf status --json prints it)",
    }
    console.print(f"[green]✓[/green] The stack is running ({stack.kind}).")
    for name, value in facts.items():
        if value:
            # Addresses and keys are copied: a narrow terminal may break them, but nothing is cut.
            console.print(f"  {name:<17}  {value}", soft_wrap=True)
