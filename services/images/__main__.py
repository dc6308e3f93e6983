"""`python -m services.images`: run the images worker with settings from the environment."""

import asyncio
import os
import secrets
import signal
import socket
import sys

import structlog

from services.api import ApiRefusedError, connect, http_client
from services.health import serve
from services.images import wakeup
from services.images.health import Metrics, make_app
from services.images.pool import ChildError, Pool, hide_from_children
from services.images.queue import Queue
from services.images.settings import WorkerSettings, load_settings
from services.images.storage import Storage
from services.images.worker import Worker
from services.log import configure_logging
from services.settings import SettingsError

log = structlog.get_logger(__name__)


def run(settings: WorkerSettings, *, engines: str = "services.images.child:EngineRunner") -> int:
    """Run a worker until SIGTERM or SIGINT and return the exit status of the process.

    `engines` is the `module:name` that each child process calls for what it runs.
    """
    configure_logging()
    hide_from_children()
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    structlog.contextvars.bind_contextvars(worker_id=worker_id)
    try:
        asyncio.run(_run(settings, worker_id, engines))
    except ChildError as error:
        log.error("engines_not_started", error=str(error), next_step="see the output of the child above")
    except ApiRefusedError as error:
        log.error(
            "first_claim_refused",
            error=str(error),
            next_step="check SUPABASE_URL and SUPABASE_SECRET_KEY, and that the migrations are applied",
        )
    except SettingsError as error:
        log.error("setting_not_usable", error=str(error))
    else:
        return 0
    return 1


async def _run(settings: WorkerSettings, worker_id: str, engines: str) -> None:
    wake = asyncio.Event()
    metrics = Metrics()
    pool = Pool(
        size=settings.concurrency,
        factory=engines,
        timeout_seconds=settings.operation_timeout_seconds,
        memory_limit_mb=settings.memory_limit_mb,
        recycle_after=settings.recycle_after,
        threads=settings.engine_threads,
        on_ready=wake.set,
    )
    async with http_client() as http:
        client = await connect(settings, http)
        worker = Worker(
            settings,
            queue=Queue(client, worker_id, settings.lease_seconds),
            storage=Storage(client, http),
            pool=pool,
            metrics=metrics,
            wake=wake,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        app = make_app(metrics, settings.poll_seconds)
        async with serve(app, settings.http_host, settings.http_port, "WORKER_HTTP_PORT"), pool:
            _check_operation_types(settings, pool)
            listener = asyncio.create_task(
                wakeup.listen(settings.supabase_url, settings.supabase_secret_key.get_secret_value(), wake)
            )
            log.info("worker_started", concurrency=settings.concurrency, providers=pool.providers)
            try:
                await worker.run()
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)


def _check_operation_types(settings: WorkerSettings, pool: Pool) -> None:
    unknown = set(settings.operation_types or ()) - set(pool.providers)
    if unknown:
        raise SettingsError(
            f"WORKER_OPERATION_TYPES names {', '.join(sorted(unknown))}, for which no engine is configured. "
            f"Choose from {', '.join(sorted(pool.providers))}."
        )


def main() -> int:
    """Read the settings and run."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return 2
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
