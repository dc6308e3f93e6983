"""What services that claim work have in common: what they say and how long they wait while the API does not answer."""

import structlog

from services.project import RefusedError, UnavailableError
from services.waiting import Backoff

log = structlog.get_logger(__name__)


class Claims:
    """What became of a service's claims. Logs a change of state, and only the change. Times in seconds."""

    def __init__(self, first_wait: float, longest_wait: float) -> None:
        self._backoff = Backoff(first_wait, longest_wait)
        self._trouble: str | None = None
        self._has_claimed = False

    def answered(self) -> None:
        """A claim was answered."""
        self._has_claimed = True
        self._backoff.reset()
        if self._trouble is not None:
            log.info("api_back")
            self._trouble = None

    def unanswered(self, error: UnavailableError) -> float:
        """A claim got no answer; returns how long to wait, twice as long each time."""
        self._report("api_unreachable", error)
        return self._backoff.next()

    def refused(self, error: RefusedError) -> None:
        """A claim was refused. Raises the error where none was ever answered."""
        if not self._has_claimed:
            raise error
        self._report("claim_refused", error)

    def _report(self, trouble: str, error: Exception) -> None:
        if trouble != self._trouble:
            log.warning(trouble, error=str(error))
            self._trouble = trouble
