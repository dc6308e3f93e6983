"""`python -m services.billing`: run the billing service with settings from the environment."""

import asyncio
import sys

import structlog

from services import process
from services.billing import reader
from services.billing.app import make_app
from services.billing.database import Database
from services.billing.settings import BillingSettings
from services.project import connect, http_client

log = structlog.get_logger(__name__)


async def serve(settings: BillingSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError for a taken port or another currency than the catalogue's."""
    stop = asyncio.Event()
    process.at_signal(stop.set)
    async with http_client() as http:
        database = Database(await connect(settings, http))
        if settings.currency is not None:
            await database.currency(settings.currency)
        app = make_app(settings, database, reader.connect(settings))
        async with process.serve(app, settings.http_host, settings.http_port, "BILLING_HTTP_PORT"):
            log.info("billing_started", live=settings.is_live)
            await stop.wait()
    log.info("billing_stopped")


def main() -> int:
    """Read the settings and run; returns the exit status."""
    return process.run(BillingSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
