"""The `dtf` command and what only it uses."""
