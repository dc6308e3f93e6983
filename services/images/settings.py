"""Settings of the images worker, read from the environment."""

import os
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MAX_DEFAULT_CONCURRENCY = 4


class SettingsError(ValueError):
    """A setting is missing or cannot be used; the message says which and what to do."""


def available_cores() -> int:
    """CPU cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerSettings(BaseSettings):
    """What the worker needs to know. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", populate_by_name=True, extra="ignore")

    supabase_url: str = Field(validation_alias=AliasChoices("SUPABASE_URL", "supabase_url"))
    supabase_secret_key: SecretStr = Field(validation_alias=AliasChoices("SUPABASE_SECRET_KEY", "supabase_secret_key"))

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

    @field_validator("supabase_url")
    @classmethod
    def _require_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("it is the project's address and starts with http:// or https://")
        return url.rstrip("/")

    @field_validator("supabase_secret_key")
    @classmethod
    def _require_key(cls, key: SecretStr) -> SecretStr:
        if not key.get_secret_value().strip():
            raise ValueError("it is empty")
        return key

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
    try:
        return WorkerSettings.model_validate({})  # everything comes from the environment
    except ValidationError as error:
        raise SettingsError(" ".join(_describe(problem) for problem in error.errors())) from None


def _describe(problem: ErrorDetails) -> str:
    name = str(problem["loc"][0])
    variable = name if name.isupper() else f"WORKER_{name.upper()}"
    if problem["type"] == "missing":
        return f"{variable} is not set: set it in the environment (`dtf status --json` prints the local values)."
    # The value itself is left out, because it may be a secret.
    return f"{variable} cannot be used: {problem['msg'].removeprefix('Value error, ')}."
