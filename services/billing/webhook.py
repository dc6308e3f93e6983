"""The webhook: verifies what Stripe sends, reads what it is about, and hands it to the database."""

import httpx
import stripe
from pydantic import SecretStr

from services.billing.database import Database, Event
from services.billing.facts import IDENTIFIER
from services.billing.reader import Reader
from services.http import ForgedError
from services.project import RefusedError, UnavailableError

UNKNOWN_SHAPE = (KeyError, TypeError, ValueError, ArithmeticError)  # what reading an object may end in
TOLERANCE = 300  # seconds that a signature is valid


class FailedError(Exception):
    """The event could not be applied and is to be sent again; `status` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def verify(body: bytes, signature: str, secrets: tuple[SecretStr, ...], *, is_live: bool) -> Event:
    """The event in a body. Raises ForgedError."""
    for secret in secrets:
        try:
            event = stripe.Webhook.construct_event(body, signature, secret.get_secret_value(), TOLERANCE).to_dict()
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            continue
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ForgedError("The body is not an event") from error
        return _checked(event, is_live=is_live)
    raise ForgedError("The signature is not valid")


def _checked(event: dict[str, object], *, is_live: bool) -> Event:
    data = event.get("data")
    item = data.get("object") if isinstance(data, dict) else None
    event_id, event_type = event.get("id"), event.get("type")
    if not (
        isinstance(event_id, str)
        and IDENTIFIER.fullmatch(event_id)
        and isinstance(event_type, str)
        and IDENTIFIER.fullmatch(event_type)
        and isinstance(item, dict)
    ):
        raise ForgedError("The body is not an event")
    if event.get("account") is not None:
        raise ForgedError("The event is of another account")
    if event.get("livemode") is not is_live:
        raise ForgedError("The event is of the other mode, live or test, than the key")
    return Event(event_id, event_type, item)


class Webhook:
    """Applies events."""

    def __init__(self, database: Database, reader: Reader) -> None:
        self._database = database
        self._reader = reader

    def subject(self, event: Event) -> str | None:
        """What an event is about, one of few words; None where nothing depends on it."""
        return self._reader.subject(event.type)

    async def apply(self, event: Event) -> str:
        """Apply an event once; its status: processed or ignored. Raises FailedError."""
        try:
            if self.subject(event) is None:
                # Nothing is read, so nothing can be old.
                return str((await self._database.apply(event, [], ticket=0))["status"])
            ticket, status = await self._database.start_read(event.id)
            if status == "processed":  # what was ignored may have found its plan since
                return status
            row = await self._database.apply(event, await self._reader.facts_of(event.type, event.item), ticket)
            return str(row["status"])
        except UnavailableError as error:
            raise FailedError(503, f"The database is not available: {error}") from error
        except RefusedError as error:
            raise await self._failed(event, 500, str(error)) from error
        except stripe.InvalidRequestError as error:
            raise await self._failed(event, 500, f"Stripe refused a read: {error.user_message or error}") from error
        except (stripe.StripeError, httpx.HTTPError) as error:
            raise await self._failed(event, 503, f"Stripe could not be read: {type(error).__name__}") from error
        except UNKNOWN_SHAPE as error:
            # An object of a shape that nobody has seen: kept for the replay, once the code knows it.
            raise await self._failed(event, 500, f"{type(error).__name__}: {error}") from error

    async def _failed(self, event: Event, status: int, message: str) -> FailedError:
        try:
            await self._database.fail(event, message)
        except (UnavailableError, RefusedError) as error:
            message = f"{message} (and this could not be written: {error})"
        return FailedError(status, message)
