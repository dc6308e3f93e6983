"""`dtf run`: the services, each until it is told to end; and which of them run."""

import asyncio
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import psutil
import typer

from cli.output import AsJson, errors, plain, print_json, print_rows, readable_errors
from cli.project import take_billing_from_stack, take_project_from_stack
from local import processes
from local.stack import default_directory

app = typer.Typer(help="Run a service until SIGTERM or Ctrl-C.", no_args_is_help=True)

# The services, and what each was called before there was `dtf run`.
NAMES = {"images": "worker", "billing": "serve", "email": "email serve", "maintenance": "maintain"}

COLUMNS = {"task": "Task", "outcome": "Outcome", "count": "Count", "seconds": "Seconds", "error": "Error"}


@app.command()
def images() -> None:
    """Work on image operations until SIGTERM or Ctrl-C.

    Takes the project from SUPABASE_URL and SUPABASE_SECRET_KEY, or else the stack that runs on this machine.
    The other settings are the WORKER_… variables.
    """
    from services.images import __main__ as service

    with readable_errors():
        take_project_from_stack()
    raise typer.Exit(service.main())


@app.command()
def billing() -> None:
    """Serve billing until SIGTERM or Ctrl-C: payment pages, the portal and the webhook of Stripe.

    Takes the project as `dtf run images` does, and Stripe from STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET, or else
    what `dtf stripe local` runs beside the local stack. The other settings are the BILLING_… variables.
    """
    from services.billing import __main__ as service

    with readable_errors():
        take_billing_from_stack()
    raise typer.Exit(service.main())


@app.command()
def email() -> None:
    """Send what is in the outbox, hear SendGrid's events and let people unsubscribe, until SIGTERM or Ctrl-C.

    Takes the project as `dtf run images` does. Mails go through SendGrid (SENDGRID_API_KEY) or by SMTP
    (EMAIL_SMTP_URL). The other settings are the EMAIL_… variables.
    """
    from services.email import __main__ as service

    with readable_errors():
        take_project_from_stack()
    raise typer.Exit(service.main())


@app.command()
def maintenance(
    once: Annotated[bool, typer.Option("--once", help="Run every task once, then end; for cron.")] = False,
    as_json: AsJson = False,
) -> None:
    """Expire credits and images, requeue lost work, tidy storage and logs, and prove the ledger, until Ctrl-C.

    Takes the project from SUPABASE_URL and SUPABASE_SECRET_KEY, or else the stack that runs on this machine. With
    --once, status 1 where a task failed, the ledger is violated or rows were set aside; --json prints what each did.
    """
    from services.maintenance import __main__ as service
    from services.maintenance.service import Outcome
    from services.maintenance.settings import MaintenanceSettings
    from services.settings import SettingsError, load

    if as_json and not once:
        raise typer.BadParameter("--json needs --once", param_hint="--json")
    with readable_errors():
        take_project_from_stack()
    if not once:
        raise typer.Exit(service.main())
    try:
        runs = asyncio.run(service.run_once(load(MaintenanceSettings)))
    except SettingsError as error:
        errors.print(plain(error), soft_wrap=True)
        raise typer.Exit(2) from error
    if as_json:
        print_json([asdict(run) for run in runs])
    else:
        print_rows([asdict(run) for run in runs], COLUMNS)
    if any(run.outcome is not Outcome.DONE for run in runs):
        raise typer.Exit(1)


def still_running(addresses: Collection[str]) -> Iterator[tuple[str, int]]:
    """The services that this checkout runs beside the stack at these addresses: the name and process id of each."""
    for process in processes.running():
        command = process.info["cmdline"]
        if (name := service_of(command)) and _is_beside(process, command, addresses):
            yield name, process.pid


def service_of(command: Sequence[str]) -> str | None:
    """The service that a command line runs, if it runs one."""
    # The folder of the program is left out, and `python -m cli.main` is `dtf`.
    words = " ".join(Path(part).name for part in command).replace("-m cli.main", "dtf") + " "
    for name, old in NAMES.items():
        if any(f" {run} " in words for run in (f"dtf run {name}", f"dtf {old}", f"-m services.{name}")):
            return name
    return None


def _is_beside(process: psutil.Process, command: Sequence[str], addresses: Collection[str]) -> bool:
    """Whether it was started by this checkout's Python, for this stack as far as its environment can be read."""
    if Path(command[0]).parent != Path(sys.executable).parent:
        return False
    try:
        environment = process.environ()
    except psutil.AccessDenied:  # a worker hides it from the pictures that it opens
        return True
    except psutil.NoSuchProcess:
        return False
    if url := environment.get("SUPABASE_URL"):
        return url.rstrip("/") in addresses
    return default_directory(environment) == default_directory()
