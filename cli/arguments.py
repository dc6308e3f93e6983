"""What is given to commands: what several of them take, and what is said of what cannot be meant."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from pydantic import ValidationError


def moment(text: str) -> datetime:
    """A time in UTC; a text that names no zone means UTC. Raises ValueError with a sentence for a person."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # of a zone at the end of time
        raise ValueError(f"it has to be a time such as 2026-11-30 or 2026-11-30T18:00, not {text!r}.") from None


User = Annotated[str, typer.Argument(metavar="USER", help="Id or e-mail address.")]


class Commands(TyperGroup):
    """The commands, which say of a value that is wrong or missing what it has to be."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was called for. Raises typer.TyperException for what is wrong with the call."""
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            error.message = _explained(error)
            raise


def _explained(error: typer.TyperException) -> str:
    from pydantic import ValidationError

    about = str(getattr(getattr(error, "param", None), "help", None) or "")
    if isinstance(error.__cause__, ValidationError):
        return _expectation(error.__cause__, about)
    if isinstance(error, typer.BadParameter) and not error.message:  # it is missing, which is said before the message
        return about
    if re.fullmatch(r"-[\d.]+", getattr(error, "option_name", "")):
        return f"{error.message}, and no number can be below zero here."
    return error.message


def _expectation(error: ValidationError, about: str) -> str:
    from services.settings import requirement

    (problem, *_) = error.errors()
    match problem["type"]:
        case "value_error":
            return str(problem["ctx"]["error"])
        case "uuid_parsing":
            return f"it has to be a UUID, not {problem['input']!r}. {about}"
    return f"{requirement(problem)}, not {problem['input']!r}."
