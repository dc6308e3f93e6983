"""Runs scripts with the Node that the stack uses."""

import os
import subprocess
from pathlib import Path

from local.gateway import node_environment
from local.packages import NODE

SECONDS = 120


def run_node(script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The finished script, with what it printed."""
    return subprocess.run(
        [str(NODE), str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={**os.environ, **node_environment(), **variables},
    )
