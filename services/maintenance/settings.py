"""Settings of the maintenance service, read from the environment."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.settings import ProjectSettings


class MaintenanceSettings(ProjectSettings):
    """What the maintenance service needs to know."""

    model_config = SettingsConfigDict(env_prefix="MAINTENANCE_")

    keep_days: int = Field(default=400, ge=31, le=36500)
    """Days that activity logs, metrics and mails are kept."""

    http_host: str = "127.0.0.1"
    http_port: int | None = Field(default=None, ge=0, le=65535)
    """Where /healthz and /metrics are served; without a port they are not."""
