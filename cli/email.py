"""`dtf email`: the outbox, campaigns and templates."""

import typer

from cli import campaigns, outbox, run, templates

app = typer.Typer(help="The outbox, campaigns and templates.", no_args_is_help=True)
app.command("list")(outbox.list_emails)
app.command()(outbox.show)
app.command()(outbox.retry)
app.add_typer(outbox.suppressions, name="suppressions")
app.add_typer(campaigns.app, name="campaign")
app.command("templates")(templates.templates)
app.command()(templates.preview)
app.command("test")(templates.send_test)
app.command("serve", hidden=True)(run.email)  # another name of `dtf run email`
