"""`dtf email`: the outbox, campaigns, templates and the service that sends."""

import typer

from cli import campaigns, outbox, templates
from cli.output import readable_errors
from cli.project import take_project_from_stack

app = typer.Typer(help="The outbox, campaigns, templates, and the service that sends.", no_args_is_help=True)
app.command("list")(outbox.list_emails)
app.command()(outbox.show)
app.command()(outbox.retry)
app.add_typer(outbox.suppressions, name="suppressions")
app.add_typer(campaigns.app, name="campaign")
app.command("templates")(templates.templates)
app.command()(templates.preview)
app.command("test")(templates.send_test)


@app.command()
def serve() -> None:
    """Send what is in the outbox, hear SendGrid's events and let people unsubscribe, until SIGTERM or Ctrl-C.

    Takes the project as `dtf worker` does. Mails go through SendGrid (SENDGRID_API_KEY) or by SMTP (EMAIL_SMTP_URL).
    The other settings are the EMAIL_… variables.
    """
    from services.email import __main__ as service

    with readable_errors():
        take_project_from_stack()
    raise typer.Exit(service.main())
