"""Settings of the images worker, read from the environment."""

import os

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.settings import Listed, ProjectSettings

MAX_DEFAULT_CONCURRENCY = 4


def available_cores() -> int:
    """CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerSettings(ProjectSettings):
    """What the worker needs to know. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    concurrency: int = Field(default_factory=lambda: min(available_cores(), MAX_DEFAULT_CONCURRENCY), ge=1, le=64)
    """Operations worked on at the same time, each in its own child process."""

    operation_types: Listed[str] = ()
    """Comma-separated operation types to take; without any, every type that an engine is configured for."""

    lease_seconds: int = Field(default=60, ge=2, le=3600)
    """How long an operation stays with a worker that gives no sign of life."""

    poll_seconds: float = Field(default=5, gt=0, le=300)
    """Mean time between two looks into the queue when nothing wakes the worker."""

    operation_timeout_seconds: float = Field(default=300, gt=0)
    """Time one run of an engine may take."""

    memory_limit_mb: int = Field(default=4096, ge=256)
    """Address space of one child process (Linux only), in MiB."""

    recycle_after: int = Field(default=100, ge=1)
    """Operations after which a child process is replaced by a fresh one."""

    shutdown_grace_seconds: float = Field(default=20, ge=0)
    """Time running operations get to finish after SIGTERM before they are handed back."""

    http_host: str = "127.0.0.1"
    http_port: int | None = Field(default=None, ge=0, le=65535)
    """Where /healthz and /metrics are served; without a port they are not."""

    @property
    def engine_threads(self) -> int:
        """Threads of one child process, so that all children together use about every core once."""
        return max(1, available_cores() // self.concurrency)
