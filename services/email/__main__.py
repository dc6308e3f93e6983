"""`python -m services.email`: send what is in the outbox, with settings from the environment."""

import asyncio
import signal
import sys

import structlog

from services.api import ApiRefusedError, connect, http_client
from services.email.app import make_app
from services.email.health import Metrics
from services.email.outbox import Outbox
from services.email.sender import EmailSender
from services.email.senders import make_sender
from services.email.settings import EmailSettings, load_settings
from services.health import serve
from services.log import configure_logging
from services.settings import SettingsError

log = structlog.get_logger(__name__)


async def run(settings: EmailSettings) -> None:
    """Send, and serve the HTTP app, until SIGTERM or SIGINT. Raises ApiRefusedError and SettingsError."""
    metrics = Metrics()
    async with http_client() as http:
        outbox = Outbox(await connect(settings, http))
        sender = EmailSender(settings, outbox, make_sender(settings), metrics)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, sender.stop)
        app = make_app(settings, outbox, metrics.check, metrics.registry)
        async with serve(app, settings.http_host, settings.http_port, "EMAIL_HTTP_PORT"):
            way = "smtp" if settings.smtp_url else "sendgrid"
            log.info("sender_started", way=way, concurrency=settings.concurrency)
            await sender.run()


def main() -> int:
    """Read the settings and run; returns the exit status of the process."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return 2
    configure_logging()
    try:
        asyncio.run(run(settings))
    except SettingsError as error:
        log.error("setting_not_usable", error=str(error))
        return 2
    except ApiRefusedError as error:
        log.error(
            "first_claim_refused",
            error=str(error),
            next_step="check SUPABASE_URL and SUPABASE_SECRET_KEY, and that the migrations are applied",
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
