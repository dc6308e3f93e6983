"""`python -m services.email`: send what is in the outbox, with settings from the environment."""

import sys

import structlog

from services import process
from services.email.app import make_app
from services.email.health import Metrics
from services.email.outbox import Outbox
from services.email.sender import EmailSender
from services.email.senders import make_sender
from services.email.settings import EmailSettings
from services.project import connect, http_client

log = structlog.get_logger(__name__)


async def run(settings: EmailSettings) -> None:
    """Send, and serve the HTTP app, until SIGTERM or SIGINT. Raises RefusedError and SettingsError."""
    metrics = Metrics()
    async with http_client() as http:
        outbox = Outbox(await connect(settings, http))
        sender = EmailSender(settings, outbox, make_sender(settings), metrics)
        process.at_signal(sender.stop)
        app = make_app(settings, outbox, metrics.check, metrics.registry)
        async with process.serve(app, settings.http_host, settings.http_port, "EMAIL_HTTP_PORT"):
            way = "smtp" if settings.smtp_url else "sendgrid"
            log.info("sender_started", way=way, concurrency=settings.concurrency)
            await sender.run()


def main() -> int:
    """Read the settings and run; returns the exit status of the process."""
    return process.run(EmailSettings, run)


if __name__ == "__main__":
    sys.exit(main())
