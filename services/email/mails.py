"""A claimed mail made ready to go: the variables that all mails share, the link to unsubscribe, the letterhead."""

from services.email.links import unsubscribe_url
from services.email.outbox import ClaimedEmail
from services.email.rendering import Content, Letterhead, render
from services.email.senders import Mail
from services.email.settings import EmailSettings

MARKETING, ESSENTIAL = "marketing", "essential"


def compose(email: ClaimedEmail, settings: EmailSettings) -> Mail:
    """The mail that a claimed one becomes. Raises RenderingError."""
    data = {"first_name": ""} | email.data | {"email": email.recipient, "app_url": settings.app_url}
    link = None
    if email.category == MARKETING:
        link = unsubscribe_url(settings.public_url, settings.link_secret, str(email.user_id))
        data["unsubscribe_url"] = link
    content = Content(email.category, email.subject, email.html_content, email.text_content)
    rendered = render(content, data, Letterhead(settings.sender_name, settings.postal_address))
    return Mail(
        id=str(email.id),
        recipient=email.recipient,
        type=email.type,
        is_essential=email.category == ESSENTIAL,
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        unsubscribe_url=link,
        template_id=email.sendgrid_template_id,
        data=data,
    )
