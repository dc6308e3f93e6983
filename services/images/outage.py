"""Storage that is away while the queue is not: without a pause, each waiting operation would use up its attempts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from services.project import UnavailableError
from services.waiting import SPREAD, Breaker

PAUSE = (1.0, 15.0)  # seconds, first and longest; doubled with each failure

log = structlog.get_logger(__name__)


class Outage(Breaker):
    """Whether something is away. While it is, one operation after each pause tries whether it is back."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Draw the conclusion from a request that is made in this context."""
        began_at = time.monotonic()
        try:
            yield
        except UnavailableError as error:
            self._failed(began_at, error)
            raise
        except Exception:  # a refusal is an answer too
            self._answered(began_at)
            raise
        else:
            self._answered(began_at)

    def _failed(self, began_at: float, error: UnavailableError) -> None:
        if self.lasts and not self.is_news(began_at):  # it fell with those that are known of
            return
        if not self.lasts:
            log.warning("storage_away", error=str(error), effect="one operation at a time tries whether it is back")
        self.fell(began_at, PAUSE, spread=SPREAD)

    def _answered(self, began_at: float) -> None:
        if self.lasts and self.is_news(began_at):
            log.info("storage_back")
            self.recovered()
            self._until = 0.0  # operations under way found it: nothing is left to wait for
