"""Storage that is away while the queue is not: without a pause, each waiting operation would use up its attempts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from services.api import ApiUnavailableError
from services.waiting import jittered

PAUSE = (1.0, 15.0)  # seconds, first and longest; doubled with each failure

log = structlog.get_logger(__name__)


class Outage:
    """Whether something is away. While it is, one operation after each pause tries whether it is back."""

    def __init__(self) -> None:
        self._failures = 0
        self._since = 0.0
        self._until = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the last failure has not been followed by a success."""
        return self._failures > 0

    @property
    def seconds_left(self) -> float:
        """Until the next try."""
        return max(0.0, self._until - time.monotonic()) if self.lasts else 0.0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Draw the conclusion from a request that is made in this context."""
        began_at = time.monotonic()
        try:
            yield
        except ApiUnavailableError as error:
            self._failed(began_at, error)
            raise
        except Exception:  # a refusal is an answer too
            self._answered(began_at)
            raise
        else:
            self._answered(began_at)

    def _failed(self, began_at: float, error: ApiUnavailableError) -> None:
        if self.lasts and began_at < self._since:  # it fell with those that are known of
            return
        if not self.lasts:
            log.warning("storage_away", error=str(error), effect="one operation at a time tries whether it is back")
        first, longest = PAUSE
        self._since = time.monotonic()
        self._until = self._since + jittered(min(longest, first * 2 ** min(self._failures, 20)))
        self._failures += 1

    def _answered(self, began_at: float) -> None:
        if self.lasts and began_at >= self._since:  # what began before says nothing of now
            log.info("storage_back")
            self._failures = 0
