"""What every service needs to know of the project, and how settings are read from the environment."""

from typing import Annotated, TypeVar

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

T = TypeVar("T")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split)]
"""Several values of one variable, separated by commas."""


class SettingsError(ValueError):
    """A setting is missing or cannot be used; the message says which and what to do."""


class ProjectSettings(BaseSettings):
    """Where the project is, and the key that acts as `service_role`."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore")

    supabase_url: str = Field(validation_alias=AliasChoices("SUPABASE_URL", "supabase_url"))
    supabase_secret_key: SecretStr = Field(validation_alias=AliasChoices("SUPABASE_SECRET_KEY", "supabase_secret_key"))

    @field_validator("supabase_url")
    @classmethod
    def _require_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("it has to be the project's address, which starts with http:// or https://")
        return url.rstrip("/")

    @field_validator("supabase_secret_key")
    @classmethod
    def _require_key(cls, key: SecretStr) -> SecretStr:
        value = key.get_secret_value().strip()
        if not value:
            raise ValueError("it is empty")
        if value.startswith("sb_publishable_") or _role(value) == "anon":
            raise ValueError(
                "it is a publishable key, which is for browsers: take a secret one (sb_secret_…), from the project's"
                " settings under API Keys"
            )
        return key


def _role(key: str) -> str | None:
    """Whom a key of the older kind, a JWT, speaks for."""
    import jwt

    try:
        role: str | None = jwt.decode(key, options={"verify_signature": False}).get("role")
    except jwt.InvalidTokenError:
        return None
    return role


Settings = TypeVar("Settings", bound=ProjectSettings)


def load(settings: type[Settings]) -> Settings:
    """Read settings from the environment. Raises SettingsError with one sentence per problem."""
    try:
        return settings.model_validate({})  # everything comes from the environment
    except ValidationError as error:
        prefix = str(settings.model_config["env_prefix"])
        raise SettingsError(" ".join(_describe(problem, prefix) for problem in error.errors())) from None


def _describe(problem: ErrorDetails, prefix: str) -> str:
    name = str(problem["loc"][0])
    variable = name if name.isupper() else f"{prefix}{name.upper()}"
    if problem["type"] == "missing":
        return f"{variable} is not set: set it in the environment (`dtf status --json` prints the local values)."
    # The value itself is left out, because it may be a secret.
    return f"{variable} cannot be used: {requirement(problem)}."


def requirement(problem: ErrorDetails) -> str:
    """What a value that cannot be used has to be, without a full stop."""
    match problem["type"], problem.get("ctx", {}):
        case "int_parsing", _:
            return "it has to be a whole number"
        case "float_parsing", _:
            return "it has to be a number"
        case "greater_than_equal", {"ge": least}:
            return f"it has to be at least {least:.10g}"
        case "greater_than", {"gt": bound}:
            return f"it has to be more than {bound:.10g}"
        case "less_than_equal", {"le": most}:
            return f"it has to be at most {most:.10g}"
    return problem["msg"].removeprefix("Value error, ")
