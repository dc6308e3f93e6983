"""The ledger as a person would keep it on paper: what the database must agree with, written without looking at it.

Time is a number of days from now; an expiry of 0 or less has passed.
"""

from dataclasses import dataclass, field

NEVER = 10**9


@dataclass
class Grant:
    """Credits that came in together. `age` orders those that are alike otherwise."""

    amount: int
    expires: int
    priority: int
    age: int
    remaining: int = field(init=False)
    # What ended unspent.
    expired: int = 0

    def __post_init__(self) -> None:
        self.remaining = self.amount

    @property
    def order(self) -> tuple[int, int, int]:
        """The lower, the sooner it is spent."""
        return self.expires, self.priority, self.age


@dataclass
class Part:
    """Credits taken from a grant."""

    grant: Grant
    amount: int


@dataclass
class Usage:
    """A debit, and where its credits came from."""

    parts: list[Part]
    is_refunded: bool = False


@dataclass
class Clawback:
    """A grant taken back: what it took so far, from wherever, what had expired unspent, and what it still owes."""

    grant: Grant
    amount: int
    expired: int
    owed: int
    taken: list[Part]
    is_reversed: bool = False


class Account:
    """One person's credits."""

    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.clawbacks: list[Clawback] = []
        self.credit(2)

    @property
    def balance(self) -> int:
        return sum(grant.remaining for grant in self.grants)

    @property
    def debt(self) -> int:
        return sum(clawback.owed for clawback in self.clawbacks)

    def spendable(self) -> int:
        """The balance without what is past its expiry."""
        return sum(grant.remaining for grant in self.grants if grant.expires > 0)

    def credit(self, amount: int, expires: int = NEVER, priority: int = 0) -> Grant:
        grant = Grant(amount, expires, priority, len(self.grants))
        self.grants.append(grant)
        self._settle([Part(grant, amount)])
        return grant

    def spend(self, amount: int) -> Usage:
        """Take `amount`, which must be spendable."""
        self.expire()
        parts = []
        for grant in sorted(self.grants, key=lambda grant: grant.order):
            taken = min(grant.remaining, amount)
            if taken:
                grant.remaining -= taken
                amount -= taken
                parts.append(Part(grant, taken))
        assert amount == 0
        return Usage(parts)

    def drop(self, amount: int) -> None:
        """Take `amount` that is delivered nothing for, as an operator does."""
        for part in self.spend(amount).parts:
            part.grant.expired += part.amount

    def expire(self, days: int = 0) -> int:
        """End what expires within so many days; return the credits that went."""
        ended = [grant for grant in self.grants if grant.expires <= days]
        credits = sum(grant.remaining for grant in ended)
        for grant in ended:
            grant.expired += grant.remaining
            grant.remaining = 0
        return credits

    def refund(self, usage: Usage) -> None:
        """Give a usage back, unless that was done."""
        if not usage.is_refunded:
            usage.is_refunded = True
            self._give_back(usage.parts)

    def open_amount(self, grant: Grant) -> int:
        """What of a grant can still be clawed back."""
        return grant.amount - sum(clawback.amount for clawback in self._standing(grant))

    def claw_back(self, grant: Grant, amount: int) -> Clawback:
        taken = min(amount, grant.remaining)
        counted = sum(clawback.expired for clawback in self._standing(grant))
        expired = min(amount - taken, grant.expired - counted)
        grant.remaining -= taken
        owed = amount - taken - expired
        clawback = Clawback(grant, amount, expired, owed, [Part(grant, taken)] if taken else [])
        self.clawbacks.append(clawback)
        return clawback

    def reverse(self, clawback: Clawback) -> None:
        clawback.is_reversed, clawback.owed = True, 0
        self._give_back(clawback.taken)

    def _standing(self, grant: Grant) -> list[Clawback]:
        return [clawback for clawback in self.clawbacks if clawback.grant is grant and not clawback.is_reversed]

    def _give_back(self, parts: list[Part]) -> None:
        for part in parts:
            part.grant.remaining += part.amount
        self._settle(parts)

    def _settle(self, credited: list[Part]) -> None:
        merged: dict[int, Part] = {}
        for part in credited:
            merged.setdefault(part.grant.age, Part(part.grant, 0)).amount += part.amount
        for part in sorted(merged.values(), key=lambda part: part.grant.order):
            for clawback in self.clawbacks:
                taken = min(clawback.owed, part.amount)
                if taken:
                    part.amount -= taken
                    part.grant.remaining -= taken
                    clawback.owed -= taken
                    clawback.taken.append(Part(part.grant, taken))
