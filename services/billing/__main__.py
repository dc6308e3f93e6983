"""`python -m services.billing`: run the billing service with settings from the environment."""

import asyncio
import socket
import sys

import structlog
import uvicorn

from services.api import connect, http_client
from services.billing import reader
from services.billing.app import make_app
from services.billing.database import Database
from services.billing.settings import BillingSettings, load_settings
from services.log import configure_logging
from services.settings import SettingsError

GRACE_SECONDS = 10  # for deliveries under way, after SIGTERM

log = structlog.get_logger(__name__)


async def serve(settings: BillingSettings, listener: socket.socket) -> None:
    """Serve on `listener` until SIGTERM or SIGINT."""
    async with http_client() as http:
        database = Database(await connect(settings, http))
        config = uvicorn.Config(
            make_app(settings, database, reader.connect(settings)),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        log.info("billing_started", port=listener.getsockname()[1], live=settings.is_live)
        await uvicorn.Server(config).serve(sockets=[listener])
        log.info("billing_stopped")


def main() -> int:
    """Read the settings and run; returns the exit status."""
    try:
        settings = load_settings()
        try:
            listener = socket.create_server((settings.http_host, settings.http_port))
        except OSError as error:
            raise SettingsError(
                f"BILLING_HTTP_PORT {settings.http_port} on {settings.http_host} cannot be opened: {error.strerror}. "
                "Choose another port."
            ) from error
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return 2
    configure_logging()
    asyncio.run(serve(settings, listener))
    return 0


if __name__ == "__main__":
    sys.exit(main())
