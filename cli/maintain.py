"""`dtf maintain`: what has to happen by the clock."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import AsJson, errors, plain, print_json, print_rows, readable_errors
from cli.project import take_project_from_stack

COLUMNS = {"task": "Task", "outcome": "Outcome", "count": "Count", "seconds": "Seconds", "error": "Error"}


def maintain(
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
