"""Settings of the billing service, read from the environment."""

import re

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from services.settings import Listed, ProjectSettings


class StripeSettings(ProjectSettings):
    """What reading from and writing to Stripe needs."""

    model_config = SettingsConfigDict(env_prefix="BILLING_")

    stripe_secret_key: SecretStr = Field(validation_alias=AliasChoices("STRIPE_SECRET_KEY", "stripe_secret_key"))

    stripe_api_url: str | None = Field(default=None, validation_alias=AliasChoices("STRIPE_API_URL", "stripe_api_url"))
    """Another server than Stripe's: the stand-in of this machine. Real payments are not known there."""

    currency: str | None = None
    """The currency that the catalogue's prices are expected in: with another one nothing is sold."""

    @field_validator("stripe_secret_key")
    @classmethod
    def _require_secret_key(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value().startswith("pk_"):
            raise ValueError(
                "it is a publishable key, which is for pages: take the secret one (sk_…) or a restricted one (rk_…),"
                " from Stripe's dashboard"
            )
        return key

    @field_validator("currency")
    @classmethod
    def _require_currency(cls, currency: str | None) -> str | None:
        if currency is not None and not re.fullmatch("[a-z]{3}", currency):
            raise ValueError("a currency is three small letters, such as usd")
        return currency

    @field_validator("stripe_api_url")
    @classmethod
    def _refuse_live_key(cls, url: str | None, info: ValidationInfo) -> str | None:
        key = info.data.get("stripe_secret_key")
        if url and key is not None and _is_live(key):
            raise ValueError("a live key is for Stripe alone: unset one of the two")
        return url

    @property
    def is_live(self) -> bool:
        """Whether the key moves real money."""
        return _is_live(self.stripe_secret_key)


class BillingSettings(StripeSettings):
    """What the service needs to know."""

    webhook_secrets: Listed[SecretStr] = Field(
        validation_alias=AliasChoices("STRIPE_WEBHOOK_SECRET", "webhook_secrets")
    )
    """Comma-separated: while a secret is being rolled, both are valid."""

    jwt_secret: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("SUPABASE_JWT_SECRET", "jwt_secret")
    )
    """For projects that sign users' tokens with a shared secret; others publish their keys (JWKS)."""

    origins: Listed[str]
    """Comma-separated: where pages may call this from, and users are sent back to, by default to the first.

    Stripe makes no payment page without a way back.
    """

    requests_per_minute: int = Field(default=20, ge=1)
    """Payment pages and portals that one user may ask for."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)

    @field_validator("webhook_secrets")
    @classmethod
    def _require_secret(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not secrets:
            raise ValueError("it is empty")
        return secrets

    @field_validator("origins")
    @classmethod
    def _require_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not origins:
            raise ValueError("it is empty")
        for origin in origins:
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or not host or "/" in host:
                raise ValueError("an origin is like https://app.example.com, without a path")
        return origins


def _is_live(key: SecretStr) -> bool:
    return "_live_" in key.get_secret_value()
