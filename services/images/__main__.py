"""`python -m services.images`: run the images worker with settings from the environment."""

import asyncio
import os
import secrets
import socket
import sys
from functools import partial

import structlog

from services import process
from services.images import wakeup
from services.images.health import Metrics, make_app
from services.images.pool import ChildError, Pool, hide_from_children
from services.images.queue import Queue
from services.images.settings import WorkerSettings
from services.images.storage import Storage
from services.images.worker import Worker
from services.project import connect, http_client
from services.settings import SettingsError

ENGINES = "services.images.child:EngineRunner"

log = structlog.get_logger(__name__)


async def run(settings: WorkerSettings, engines: str) -> None:
    """Work until SIGTERM or SIGINT. Raises ChildError, RefusedError and SettingsError.

    `engines` is the `module:name` that each child process calls for what it runs.
    """
    hide_from_children()
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    structlog.contextvars.bind_contextvars(worker_id=worker_id)
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
        process.at_signal(worker.stop)
        app = make_app(metrics, settings.poll_seconds)
        async with process.serve(app, settings.http_host, settings.http_port, "WORKER_HTTP_PORT"), pool:
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
    unknown = set(settings.operation_types) - set(pool.providers)
    if unknown:
        raise SettingsError(
            f"WORKER_OPERATION_TYPES names {', '.join(sorted(unknown))}, for which no engine is configured. "
            f"Choose from {', '.join(sorted(pool.providers))}."
        )


def main(engines: str = ENGINES) -> int:
    """Read the settings and run; returns the exit status of the process: 1 where the engines do not start."""
    try:
        return process.run(WorkerSettings, partial(run, engines=engines))
    except ChildError as error:
        log.error("engines_not_started", error=str(error), next_step="see the output of the child above")
        return 1


if __name__ == "__main__":
    sys.exit(main())
