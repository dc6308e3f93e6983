"""Run npm with the wheel's own Node: `python -m local.npm ci`."""

import os
import subprocess
import sys
from pathlib import Path

from local.environment import NO_HOME
from local.gateway import node_environment
from local.packages import NODE

PROJECT = Path(__file__).resolve().parents[1]
# The wheel's bin/npm is a copy that only runs outside a package; this is the script behind it.
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def main(arguments: list[str]) -> int:
    """npm's exit status. Install scripts are off: no package here needs one.

    It believes whom the machine believes, such as a company's proxy, and tries what failed again, for minutes: so each
    failure is shown at once.
    """
    command = [str(NODE), str(NPM), *arguments, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=http"]
    env = {**os.environ, **node_environment(), **_home(), "NODE_USE_SYSTEM_CA": "1"}
    with subprocess.Popen(
        command, cwd=PROJECT, env=env, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as npm:
        for line in npm.stderr or ():
            if line.startswith("npm error") or " failed with " in line:
                sys.stderr.write(line)
    return npm.returncode


def _home() -> dict[str, str]:
    """Where npm keeps what it fetched: at home as usual, or in the checkout for a user without a home of his own."""
    home = Path(os.environ.get("HOME", NO_HOME))
    if os.access(home / ".npm", os.W_OK) or os.access(home, os.W_OK):
        return {}
    return {"HOME": str(PROJECT / "node_modules")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
