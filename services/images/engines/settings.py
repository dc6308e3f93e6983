"""Settings of the engines, read from the environment."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from services.settings import Listed


class EngineSettings(BaseSettings):
    """Which providers are used and how hard the engines may work. Its fields are what child processes see."""

    engine_threads: int = Field(default=1, ge=1, le=64)
    """Threads of one engine. One per process keeps several child processes from fighting for cores."""

    engine_classes: Listed[str] = ()
    """Comma-separated engines of your own, as package.module:Class. They take the place of ours for their operation."""

    background_model: Path | None = None
    """An ONNX file of U-2-Net, ISNet or BiRefNet for photos, in place of the small network that is installed. Needs
    onnxruntime."""

    openai_api_key: SecretStr | None = None
    """Switches `generate` to OpenAI when set."""

    openai_base_url: str = "https://api.openai.com/v1"
    openai_image_model: str = "gpt-image-2.5-flare"
    """Must be a model that makes transparent backgrounds."""

    openai_image_quality: str = "auto"
    openai_timeout_seconds: float = Field(default=180.0, gt=0)

    # US dollars per million tokens; the reply says how many tokens were used, never what they cost.
    openai_text_input_price: Decimal = Field(default=Decimal("5"), ge=0)
    openai_image_input_price: Decimal = Field(default=Decimal("8"), ge=0)
    openai_output_price: Decimal = Field(default=Decimal("30"), ge=0)

    @field_validator("openai_api_key")
    @classmethod
    def _blank_key_is_no_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key is not None and key.get_secret_value().strip() else None
