"""A stand-in for Stripe on this machine: payments, subscriptions, refunds and signed events, and no money.

`account` holds the objects and what happens to them; `api` answers as Stripe's API does, `pages` shows what Stripe
hosts, `simulate` does what time, banks and customers do, `delivery` sends the events; `server` puts them together.

It speaks what billing uses, in the shapes documented for the pinned version of the API, and refuses the rest.
"""

from local.stripe.account import Account
from local.stripe.delivery import signature, signed
from local.stripe.server import SECRET_KEY, WEBHOOK_SECRET, LocalStripe
from local.stripe.store import Object

__all__ = ["SECRET_KEY", "WEBHOOK_SECRET", "Account", "LocalStripe", "Object", "signature", "signed"]
