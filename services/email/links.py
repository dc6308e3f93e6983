"""Links to unsubscribe: whose they are is signed into them, so that they work without a session and for ever.

A mail is read years later, so there is no expiry; the token opens nothing but this one door.
"""

from uuid import UUID

import jwt
from pydantic import SecretStr

from services.http import ForgedError

ALGORITHM = "HS256"
AUDIENCE = "unsubscribe"
LEAST_SECRET = 32  # bytes, as HS256 wants


def unsubscribe_url(public_url: str, secret: SecretStr, user_id: str) -> str:
    """The address where a user stops marketing mails: a page for people, and for the button of mail programs."""
    claims = {"sub": user_id, "aud": AUDIENCE}
    return f"{public_url}/unsubscribe?token={jwt.encode(claims, secret.get_secret_value(), ALGORITHM)}"


def user_of(token: str, secret: SecretStr) -> str:
    """The id of the user whose link it is. Raises ForgedError."""
    try:
        claims = jwt.decode(
            token,
            secret.get_secret_value(),
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["sub", "aud"]},
        )
        return str(UUID(claims["sub"]))
    except (jwt.PyJWTError, ValueError) as error:
        raise ForgedError("The link is not valid") from error
