"""The `dtf` command."""

import typer

app = typer.Typer()
