"""Settings of the e-mail service, read from the environment."""

from email.utils import parseaddr
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.email.events import load_key
from services.settings import Listed, ProjectSettings

LEAST_SECRET = 32  # bytes


class EmailSettings(ProjectSettings):
    """What the e-mail service needs to know."""

    model_config = SettingsConfigDict(env_prefix="EMAIL_")

    sender: str = Field(validation_alias=AliasChoices("EMAIL_FROM", "sender"))
    """Who the mails are from: `DTF Editor <hello@example.com>`. The name also stands at the head of each mail."""

    reply_to: str | None = None
    """Where answers go, if not to the sender."""

    app_url: str
    """Where the web client is; mails link to it."""

    public_url: str
    """Where the world reaches this service: the links to unsubscribe lead to /unsubscribe below it."""

    link_secret: SecretStr
    """Signs the links to unsubscribe. With another secret the links in mails that are out there die."""

    postal_address: str = ""
    """Stands at the foot of mails. Many countries ask for it in marketing mails."""

    smtp_url: SecretStr | None = None
    """smtp://user:password@host:587 or smtps://…: sends this way instead of through SendGrid."""

    sendgrid_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("SENDGRID_API_KEY", "sendgrid_api_key")
    )

    sendgrid_api_url: str = Field(
        default="https://api.sendgrid.com", validation_alias=AliasChoices("SENDGRID_API_URL", "sendgrid_api_url")
    )
    """https://api.eu.sendgrid.com for subusers in the EU, or another server, for tests."""

    sendgrid_webhook_public_keys: Listed[str] = Field(
        default=(), validation_alias=AliasChoices("SENDGRID_WEBHOOK_PUBLIC_KEY", "sendgrid_webhook_public_keys")
    )
    """Comma-separated verification keys of the event webhook; without one no events are taken."""

    concurrency: int = Field(default=10, ge=1, le=100)
    """Mails that are on their way to the provider at a time."""

    poll_seconds: float = Field(default=2, gt=0, le=60)
    """Pause between two looks into an outbox that was empty. Realtime, which wakes the images worker, would have to
    publish the outbox, and hold the browsers' events up by ten seconds and more for a campaign of 10,000 mails."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8081, ge=0, le=65535)

    @field_validator("sender", "reply_to")
    @classmethod
    def _require_address(cls, value: str | None) -> str | None:
        if value is not None and not _is_address(value):
            raise ValueError("an address is like hello@example.com, or: DTF Editor <hello@example.com>")
        return value

    @field_validator("app_url", "public_url", "sendgrid_api_url")
    @classmethod
    def _require_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("an address is like https://example.com")
        return url.rstrip("/")

    @field_validator("link_secret")
    @classmethod
    def _require_long_secret(cls, secret: SecretStr) -> SecretStr:
        if len(secret.get_secret_value().encode()) < LEAST_SECRET:
            raise ValueError(f"it needs {LEAST_SECRET} bytes: openssl rand -hex {LEAST_SECRET}")
        return secret

    @field_validator("smtp_url")
    @classmethod
    def _require_smtp(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value():
            return None
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("an address is like smtp://127.0.0.1:1025 or smtps://user:password@mail.example.com")
        return url

    @field_validator("sendgrid_api_key")
    @classmethod
    def _ignore_empty(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key and key.get_secret_value().strip() else None

    @field_validator("sendgrid_webhook_public_keys")
    @classmethod
    def _require_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            load_key(key)
        return keys

    @property
    def sender_name(self) -> str:
        """The name of the sender, or his address where he has none."""
        name, address = parseaddr(self.sender)
        return name or address

    @property
    def sender_address(self) -> str:
        """The address of the sender."""
        return parseaddr(self.sender)[1]


def _is_address(value: str) -> bool:
    # Only the name of a sender may have other characters: SMTP carries no such address.
    name, _, domain = parseaddr(value)[1].rpartition("@")
    return bool(name and domain) and (name + domain).isascii() and "\n" not in value and "\r" not in value
