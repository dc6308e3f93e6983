"""What the worker tells the outside of itself."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.applications import Starlette

from services.health import health_app

SECONDS_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
LEAST_STUCK_SECONDS = 30.0  # without a look into the queue, before the worker counts as stuck
STUCK_POLLS = 5


class Metrics:
    """Counters of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._operations = Counter(
            "dtf_worker_operations",
            "Operations by what happened to them: claimed, completed, failed, released, lease_lost, unreported, "
            "crashed.",
            ("operation_type", "event"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "dtf_worker_operation_seconds",
            "Time from claim to end.",
            ("operation_type",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "dtf_worker_operations_in_flight", "Operations being worked on.", registry=self.registry
        )
        self._last_look = time.monotonic()
        Gauge(
            "dtf_worker_last_poll_age_seconds",
            "Seconds since the queue was last looked at with success.",
            registry=self.registry,
        ).set_function(lambda: self.last_look_age)

    @property
    def last_look_age(self) -> float:
        """Seconds since the loop last did its duty."""
        return time.monotonic() - self._last_look

    def looked(self) -> None:
        """The queue was looked at, or there was no free slot to look for."""
        self._last_look = time.monotonic()

    def claimed(self, operation_type: str) -> None:
        """An operation was claimed."""
        self._operations.labels(operation_type, "claimed").inc()
        self._in_flight.inc()

    def finished(self, operation_type: str, outcome: str, seconds: float) -> None:
        """A claimed operation ended as `outcome`."""
        self._operations.labels(operation_type, outcome).inc()
        self._seconds.labels(operation_type).observe(seconds)
        self._in_flight.dec()


def make_app(metrics: Metrics, poll_seconds: float) -> Starlette:
    """Make the HTTP app. /healthz answers 503 when the queue was not looked at for too long."""
    stuck_after = max(LEAST_STUCK_SECONDS, STUCK_POLLS * poll_seconds)

    def check() -> tuple[bool, dict[str, Any]]:
        age = metrics.last_look_age
        ok = age < stuck_after
        return ok, {"status": "ok" if ok else "stuck", "last_poll_age_seconds": round(age, 1)}

    return health_app(check, metrics.registry)
