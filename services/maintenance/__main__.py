"""`python -m services.maintenance`: run the maintenance service with settings from the environment."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services import process
from services.log import configure_logging
from services.maintenance.service import Maintenance, Run, make_app
from services.maintenance.settings import MaintenanceSettings
from services.maintenance.tasks import ANSWER_TIMEOUT, Project
from services.project import connect, http_client


@asynccontextmanager
async def maintenance(settings: MaintenanceSettings) -> AsyncIterator[Maintenance]:
    """The tasks on the project of the settings."""
    async with http_client(ANSWER_TIMEOUT) as http:
        yield Maintenance(Project(await connect(settings, http), settings.keep_days))


async def run_once(settings: MaintenanceSettings) -> list[Run]:
    """Run every task once."""
    configure_logging()
    async with maintenance(settings) as service:
        return await service.run_once()


async def run(settings: MaintenanceSettings) -> None:
    """Run each task by its own clock until SIGTERM or SIGINT. Raises RefusedError and SettingsError."""
    async with maintenance(settings) as service:
        process.at_signal(service.stop)
        app = make_app(service.metrics)
        async with process.serve(app, settings.http_host, settings.http_port, "MAINTENANCE_HTTP_PORT"):
            await service.run()


def main() -> int:
    """Read the settings and run; returns the exit status of the process."""
    return process.run(MaintenanceSettings, run)


if __name__ == "__main__":
    sys.exit(main())
