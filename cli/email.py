"""`dtf email`: the outbox, campaigns, templates and the service that sends."""

import typer

from cli import campaigns, outbox

app = typer.Typer(help="The outbox, campaigns, templates, and the service that sends.", no_args_is_help=True)
app.command("list")(outbox.list_emails)
app.command()(outbox.show)
app.command()(outbox.retry)
app.add_typer(outbox.suppressions, name="suppressions")
app.add_typer(campaigns.app, name="campaign")
