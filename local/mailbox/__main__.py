"""`python -m local.mailbox <stack directory> <SMTP port> <port of the page>`."""

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from local.log import configure_logging
from local.mailbox.folder import Folder
from local.mailbox.pages import make_app
from local.mailbox.smtp import make_smtp

SHUTDOWN_SECONDS = 2


async def serve(folder: Folder, smtp_port: int, page_port: int) -> None:
    """Take and show mails until SIGTERM or SIGINT."""
    smtp = await asyncio.get_running_loop().create_server(
        lambda: make_smtp(folder), sock=socket.create_server(("127.0.0.1", smtp_port))
    )
    config = uvicorn.Config(
        make_app(folder),
        host="127.0.0.1",
        port=page_port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    await uvicorn.Server(config).serve()
    smtp.close()


if __name__ == "__main__":
    configure_logging()
    asyncio.run(serve(Folder(Path(sys.argv[1]) / "mail"), int(sys.argv[2]), int(sys.argv[3])))
