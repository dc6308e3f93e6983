"""The `dtf` command: the local stack, the services, the demonstration, and the operator's commands.

Every command imports all modules of commands, so these import at their heads what describes and prints; what takes
long, such as the clients of Supabase and Stripe and the services, is imported where it is used.
"""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import __version__, credits, doctor, email, operations, plans, run, stack, stats, stripe, users
from cli.arguments import Commands
from cli.output import console, fail, readable_errors

app = typer.Typer(
    cls=Commands,
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


def print_version(wanted: bool) -> None:
    """Print the version and end, where it is asked for."""
    if wanted:
        typer.echo(f"dtf {__version__}")
        raise typer.Exit


@app.callback()
def prepare(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The DTF Editor backend on this machine."""
    from services.proxies import ProxyError, spare_loopback

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for what a language that is not written in UTF-8 lacks
    try:
        spare_loopback()
    except ProxyError as error:
        fail(error)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
) -> None:
    """Play everything in one go: sign-up with its mail, upload, an operation of every kind, one refund, the ledger."""
    with readable_errors():
        running = stack.start_stack()
        from cli import demo as scenario  # the browser that it takes pictures with is not in the image of the services
        from cli.project import answers

        with answers():
            scenario.run(running, output.resolve(), console)


# `dtf --help` keeps this order: who is new here needs `dtf up` first.
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(demo)
app.add_typer(run.app, name="run")
app.command()(stack.logs)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)(
    stack.supabase
)
app.command()(doctor.doctor)
app.command()(stats.stats)
app.add_typer(users.app, name="users")
app.add_typer(credits.app, name="credits")
app.add_typer(operations.app, name="operations")
app.add_typer(plans.app, name="plans")
app.add_typer(stripe.app, name="stripe")
app.add_typer(email.app, name="email")
# Other names of `dtf run`.
app.command("worker", hidden=True)(run.images)
app.command("serve", hidden=True)(run.billing)
app.command("maintain", hidden=True)(run.maintenance)


if __name__ == "__main__":
    app()
