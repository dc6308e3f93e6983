"""Objects of Stripe that are made once, however often they are asked for because an answer was lost."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

import stripe

T = TypeVar("T")


async def create_once(create: Callable[[Any, Any], Awaitable[T]], key: str, params: Any) -> T:
    """Make an object, and nothing new where the same is asked again. Raises stripe.StripeError.

    The key goes with the parameters: Stripe refuses a known key with others for a day, say after an address changed.
    An object that is made beside one whose answer was lost is known to nobody.
    """
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
    try:
        return await create(params, {"idempotency_key": f"{key}:{digest}"})
    except stripe.StripeError as error:
        if (error.headers or {}).get("idempotent-replayed") != "true":
            raise
    # Stripe repeats failures as well, for a day, whatever has been mended since.
    return await create(params, {"idempotency_key": f"{key}:{digest}:{uuid4()}"})
