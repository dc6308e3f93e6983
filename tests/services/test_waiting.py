"""How services wait: as long as a provider asks for, and longer with each failure."""

import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from services.waiting import Backoff, Breaker, retry_after


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("2.5", 2.5), ("-1", 0), ("9" * 400, float("inf"))])
def test_it_is_a_number(text: str, seconds: float) -> None:
    assert retry_after(text) == seconds


def test_it_is_a_date_of_any_zone() -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    without_a_zone = format_datetime(soon.replace(tzinfo=None))
    assert without_a_zone.endswith("-0000")
    elsewhere = soon.astimezone(timezone(timedelta(hours=-8)))
    for text in (format_datetime(soon, usegmt=True), format_datetime(elsewhere), without_a_zone):
        assert retry_after(text) == pytest.approx(3600, abs=30)


def test_a_date_may_be_the_first_or_the_last() -> None:
    assert retry_after("Mon, 01 Jan 0001 00:00:00 +2359") == 0
    assert (retry_after("Fri, 31 Dec 9999 23:59:59 -2359") or 0) > 1e11


@pytest.mark.parametrize(
    "text", ["", "soon", "nan", "Fri, 31 Dec 99999999999999999999 23:59:59 GMT", "Fri, 99 Dec 2026 23:59:59 GMT"]
)
def test_what_is_neither_asks_for_nothing(text: str) -> None:
    assert retry_after(text) is None


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(0.5, 3)
    assert [backoff.next() for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.next() == 0.5


def test_what_was_begun_before_the_trouble_says_nothing_of_now() -> None:
    breaker, before = Breaker(), time.monotonic() - 60
    assert (breaker.lasts, breaker.seconds_left) == (False, 0)
    assert breaker.fell(before, (1, 8)) == 1, "the first to tell of it"
    assert not breaker.is_news(before)
    assert [breaker.fell(before, (1, 8)) for _ in range(3)] == [1, 1, 1], "these fell with it"
    assert [breaker.fell(time.monotonic(), (1, 8)) for _ in range(4)] == [2, 4, 8, 8]
    assert breaker.fell(time.monotonic(), (1, 8), asked=30) == 30
    assert 29 < breaker.seconds_left <= 30
    breaker.recovered()
    assert not breaker.lasts
