"""Settings of the images worker, read from the environment."""

import os
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.settings import ProjectSettings, load

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

    operation_types: Annotated[tuple[str, ...] | None, NoDecode] = None
    """Comma-separated operation types to take; None takes every type that an engine is configured for."""

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

    @field_validator("operation_types", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip()) or None
        return value

    @property
    def engine_threads(self) -> int:
        """Threads of one child process, so that all children together use about every core once."""
        return max(1, available_cores() // self.concurrency)


def load_settings() -> WorkerSettings:
    """Read the settings from the environment. Raises SettingsError with one sentence per problem."""
    return load(WorkerSettings)
