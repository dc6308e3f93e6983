"""supabase/config.toml, as far as this machine's side reads it itself."""

import tomllib
from pathlib import Path
from typing import Any

from local.errors import StackError


def read_config(project: Path) -> dict[str, Any]:
    """The whole file. Raises StackError where it cannot be read."""
    path = project / "supabase" / "config.toml"
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StackError(f"{path} cannot be read: {error}. Mend it; git has the one of the project.") from error


def table(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A table of the file, empty where it is missing. Raises StackError where something else has its name."""
    found = config.get(name, {})
    if not isinstance(found, dict):
        raise StackError(f"{name} in supabase/config.toml has to be a table: [{name}].")
    return found
