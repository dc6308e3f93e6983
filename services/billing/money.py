"""Money as Stripe counts it, in the smallest unit of a currency, and as the ledger does, in units."""

from decimal import Decimal

# https://docs.stripe.com/currencies#zero-decimal
ZERO_DECIMAL = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
)
THREE_DECIMAL = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])


def _digits(currency: str) -> int:
    code = currency.upper()
    return 0 if code in ZERO_DECIMAL else 3 if code in THREE_DECIMAL else 2


def to_units(amount: int | Decimal, currency: str) -> Decimal:
    """799 and usd are 7.99."""
    return Decimal(amount).scaleb(-_digits(currency))


def to_smallest(amount: Decimal, currency: str) -> int:
    """7.99 and usd are 799. Raises ValueError where the currency has no such amount."""
    smallest = amount.scaleb(_digits(currency))
    if smallest != smallest.to_integral_value():
        raise ValueError(f"{amount} is no amount in {currency.upper()}")
    return int(smallest)
