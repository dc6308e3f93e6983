"""`dtf stripe`: the catalogue at Stripe, events that were not heard, and the comparison of the books."""

import os
import socket
from typing import Annotated

import typer

from cli.errors import CommandError
from cli.output import AsJson, done, errors, plain, print_json, print_rows, readable_errors
from local.stack import default_directory, told_billing_url
from local.state import free_port

app = typer.Typer(help="The catalogue at Stripe, missed events, and the books compared.", no_args_is_help=True)

LOCAL_PORT = 12111

Days = Annotated[int, typer.Option(min=1, max=30, help="How far to look back.")]


@app.command()
def sync(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring plans and packages to Stripe: create, update, adopt and retire products and prices.

    Status 1 where one of them failed; the others are for sale all the same.
    """
    from cli import bookkeeping

    with readable_errors():
        steps = bookkeeping.sync(dry_run=dry_run)
    if as_json:
        print_json(steps)
    elif steps:
        print_rows(steps, {"action": "Would" if dry_run else "Did", "kind": "For", "name": "Name", "detail": "Detail"})
    else:
        done("Stripe has the catalogue as it is here.")
    if any(step["action"] == "failed" for step in steps):
        raise typer.Exit(1)


@app.command()
def replay(
    event: Annotated[str | None, typer.Argument(help="Id. Default: all that failed or were not heard.")] = None,
    days: Days = 30,
    as_json: AsJson = False,
) -> None:
    """Apply events again that failed, or that no endpoint accepted. Status 1 where one still fails."""
    from cli import bookkeeping

    with readable_errors():
        outcomes = bookkeeping.replay(event, days)
    if as_json:
        print_json(outcomes)
    elif outcomes:
        print_rows(outcomes, {"id": "Event", "outcome": "Outcome"})
    else:
        done("Every event was heard and applied.")
    if any(row["outcome"].startswith("failed") for row in outcomes):
        raise typer.Exit(1)


@app.command()
def reconcile(
    days: Annotated[int, typer.Option(min=1, max=3650, help="How far to look back.")] = 30,
    apply: Annotated[bool, typer.Option("--apply", help="Make the ledger agree with Stripe.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare Stripe's lists with the ledger. Status 1 where they differ, or with --apply where trouble is left.

    What customers of this project have at Stripe that is no plan or package of it is listed as ignored.
    """
    from cli import bookkeeping

    with readable_errors():
        differences = bookkeeping.differences(days, apply=apply)
    if as_json:
        print_json(differences)
    elif differences:
        rows = [
            {"source": row["source"], "id": row["id"], "is": row.get("is")}
            | {"what": row.get("what") or ("ignored" if row.get("is_elsewhere") else "trouble")}
            | {"should_be": row.get("should_be") or row.get("trouble")}
            for row in differences
        ]
        headings = {"source": "At Stripe", "id": "Id", "what": "What", "is": "Was" if apply else "Is"}
        print_rows(rows, headings | {"should_be": "Is now" if apply else "Should be"})
    else:
        done("The ledger agrees with Stripe.")
    if any("what" not in row or not apply for row in differences if not row.get("is_elsewhere")):
        raise typer.Exit(1)


@app.command()
def local(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help=f"Default: {LOCAL_PORT}, or any free one.")] = None,
    forward_to: Annotated[str | None, typer.Option(help="Where events go. Default: where billing is.")] = None,
) -> None:
    """Run a stand-in for Stripe until Ctrl-C, for `dtf run billing` and `dtf stripe` beside the local stack.

    No money moves, and it forgets everything when it stops. Its own page shows all there is and lets time pass.
    """
    from local.stripe import SECRET_KEY, LocalStripe, server

    with readable_errors():
        if running := server.find(default_directory()):
            raise CommandError(f"A stand-in runs already, at {running}. Stop it first; it forgets everything then.")
        try:
            listener = socket.create_server(("127.0.0.1", port or free_port(LOCAL_PORT)))
        except OSError as error:
            raise CommandError(f"Port {port} cannot be opened: {error.strerror}. Choose another.") from error
        events_to = forward_to or webhook()
        stand_in = LocalStripe(
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            events_to,
            lambda event_type, outcome: errors.print(f"→ {plain(event_type)} {plain(outcome)}", highlight=False),
        )
        server.announce(stand_in, default_directory())
    done(f"A stand-in for Stripe is at {stand_in.url}, its key is {SECRET_KEY}. Events go to {events_to}.")
    server.run(listener, stand_in)


def webhook() -> str:
    """The webhook of billing: where the stack was told that it is, else where it listens with this environment."""
    if url := told_billing_url():
        return f"{url}/webhooks/stripe"
    host, port = os.environ.get("BILLING_HTTP_HOST", "127.0.0.1"), os.environ.get("BILLING_HTTP_PORT", "8080")
    return f"http://{host}:{port}/webhooks/stripe"
