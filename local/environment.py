"""What our own processes know of the environment.

A shell's variables are for its user's other programs: a proxy, a Postgres elsewhere, another language, options of Node.
The parts of the stack get the few that a process cannot do without.
"""

import os

# Node ends with an error where neither the environment nor /etc/passwd tells of a home.
NO_HOME = "/nonexistent"
KEPT = ("HOME", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "USER")


def own(**more: str) -> dict[str, str]:
    """The environment of a part of the stack."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"HOME": NO_HOME, **kept, "LC_ALL": "C.UTF-8", **more}


def forget_other_servers() -> None:
    """Take what is said of other Postgres servers out of this process: libpq believes it before what it is told, and a
    service that it names must exist.
    """
    for name in list(os.environ):
        if name.startswith("PG"):
            del os.environ[name]
