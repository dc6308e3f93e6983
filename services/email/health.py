"""What the sender tells the outside of itself."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.email.senders import Trouble

SECONDS_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40)
FOR_A_PERSON = frozenset({Trouble.EXHAUSTED, Trouble.REFUSED})
"""Trouble that a person has to look at; an outage of the provider passes."""
LONGEST_LABEL = 200  # characters
STUCK_SECONDS = 60.0  # without an answered look into the outbox, before the sender counts as stuck


class Metrics:
    """Counters of one sender."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._mails = Counter(
            "dtf_email_mails",
            "Mails by type and what became of the try: sent, retry, failed, unknown, handed_back.",
            ("type", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "dtf_email_send_seconds",
            "Time from the call of the provider to its answer.",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "dtf_email_mails_in_flight", "Mails that are claimed and not yet recorded.", registry=self.registry
        )
        self._paused = Gauge(
            "dtf_email_paused", "1 while no mail is sent for this reason.", ("reason",), registry=self.registry
        )
        self._said = Gauge(
            "dtf_email_pause_info",
            "What was said when the sending paused.",
            ("reason", "error"),
            registry=self.registry,
        )
        for trouble in Trouble:
            self._paused.labels(trouble).set(0)
        self._last_look = time.monotonic()
        Gauge(
            "dtf_email_last_poll_age_seconds",
            "Seconds since the outbox was last looked at with success.",
            registry=self.registry,
        ).set_function(lambda: time.monotonic() - self._last_look)
        self._trouble: Trouble | None = None
        self._error: str | None = None
        self._unrecorded: str | None = None

    def looked(self) -> None:
        """The outbox was looked at, or there was a reason not to."""
        self._last_look = time.monotonic()

    def tried(self, email_type: str, outcome: str, seconds: float) -> None:
        """A mail was tried for so many seconds."""
        self._mails.labels(email_type, outcome).inc()
        self._seconds.observe(seconds)

    def handed_back(self, email_type: str) -> None:
        """A claimed mail was not tried."""
        self._mails.labels(email_type, "handed_back").inc()

    def pauses(self, trouble: Trouble, error: str) -> None:
        """No mail is sent for a while; `error` is what was said, without anybody's address."""
        self.goes_on()
        self._paused.labels(trouble).set(1)
        self._said.labels(trouble, error[:LONGEST_LABEL]).set(1)
        self._trouble, self._error = trouble, error

    def goes_on(self) -> None:
        """Mails are sent again."""
        for reason in Trouble:
            self._paused.labels(reason).set(0)
        self._said.clear()
        self._trouble = self._error = None

    def unrecorded(self, error: str | None) -> None:
        """The database refused to hear what became of mails, or hears it again."""
        self._unrecorded = error

    def check(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and what /healthz shows."""
        age = time.monotonic() - self._last_look
        is_well, error = False, None
        if age > STUCK_SECONDS:
            status = "stuck"
        elif self._unrecorded:
            status, error = "results are refused", self._unrecorded
        elif self._trouble:
            status, error = self._trouble, self._error
            is_well = self._trouble not in FOR_A_PERSON
        else:
            status, is_well = "ok", True
        return is_well, {"status": status, "error": error, "last_poll_age_seconds": round(age, 1)}
