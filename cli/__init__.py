"""The `dtf` command and what only it uses."""

__version__ = "0.1.0"
