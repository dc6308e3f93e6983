"""What `dtf stats` prints of the database's figures: sums over months, and blanks where nothing can be said."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from cli.stats import SHOW, Figure

MONTHS = (date(2001, 1, 1), date(2001, 2, 1))
JANUARY, FEBRUARY = (month.isoformat() for month in MONTHS)

Print = Callable[..., list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Print:
    """Prints a figure; returns its lines without their spacing."""

    def printed(figure: Figure, columns: str, *rows: tuple[Any, ...]) -> list[str]:
        SHOW[figure]([dict(zip(columns.split(), row, strict=True)) for row in rows], MONTHS)
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]

    return printed


def test_revenue_adds_up_by_month_and_by_product(printed: Print) -> None:
    lines = printed(
        Figure.REVENUE,
        "month product_type product_id product currency payments credits received returned net",
        (JANUARY, "package", "p", "Ten", "USD", 2, 2000, 1500.5, 0.0, 1500.5),
        (JANUARY, "package", "p", "Ten", "EUR", 1, 10, 7.49, 0.0, 7.49),
        (FEBRUARY, "package", "p", "Ten credits", "USD", 1, 10, 7.99, 10.0, -2.01),
        (FEBRUARY, "other", None, "other", "USD", 1, 1, 0.0125, 0.0, 0.0125),
    )
    assert lines == [
        "Month EUR USD",
        "2001-01 7.49 1,500.50",
        "2001-02 0.00 -2.00",
        "Product Currency Payments Credits Received Returned Net By month",
        "Ten credits USD 3 2,010 1,508.49 10.00 1,498.49 █▁",
        "Ten EUR 1 10 7.49 0.00 7.49 █▁",
        "other USD 1 1 0.0125 0.00 0.0125 ▁█",
    ]


def test_a_margin_is_blank_where_an_operation_earned_in_another_currency(printed: Print) -> None:
    lines = printed(
        Figure.MARGINS,
        "month operation_type operations credits free_credits earned"
        " provider_calls unpriced_calls provider_cost margin",
        (JANUARY, "generate", 4, 8, 2, {"USD": 2.0, "EUR": 1.0}, 4, 1, 0.5, None),
        (FEBRUARY, "generate", 1, 2, 0, {"USD": 1.0}, 1, 0, 0.125, 0.875),
        (JANUARY, "upscale", 3, 3, 3, {}, 0, 0, 0.0, 0.0),
        (FEBRUARY, "upscale", -1, -1, -1, {"USD": -2.5}, 1, 2, 0.25, -2.75),
    )
    assert lines == [
        "Operation Charged Credits Free EUR USD Calls Cost USD Margin USD By month",
        "generate 5 10 2 1.00 3.00 5 0.6250 █▃",
        "upscale 2 2 2 0.00 -2.50 1 0.25 -2.75 █▁",
        "The cost of 3 calls is not known, so margins are at most these.",
    ]


def test_the_funnel_has_shares_and_a_sum(printed: Print) -> None:
    lines = printed(
        Figure.FUNNEL,
        "month signed_up uploaded operated paid",
        (JANUARY, 1000, 500, 250, 10),
        (FEBRUARY, 600, 300, 150, 22),
    )
    assert lines[1:] == [
        "2001-01 1,000 500 50 % 250 25 % 10 1 %",
        "2001-02 600 300 50 % 150 25 % 22 4 %",
        "All 1,600 800 50 % 400 25 % 32 2 %",
    ]


def test_retention_is_a_line_of_percentages_for_each_cohort(printed: Print) -> None:
    lines = printed(
        Figure.RETENTION,
        "cohort accounts month month_number active",
        (JANUARY, 8, JANUARY, 0, 8),
        (JANUARY, 8, FEBRUARY, 1, 1),
        (FEBRUARY, 4, FEBRUARY, 0, 0),
    )
    assert lines == ["Signed up Accounts 0 1", "2001-01 8 100 12", "2001-02 4 0"]


def test_the_queue_tells_waits_in_readable_units(printed: Print) -> None:
    lines = printed(
        Figure.QUEUE,
        "operation_type waiting oldest_wait_seconds delayed running lost",
        ("generate", 0, None, 1, 0, 0),
        ("upscale", 1200, 119.94, 0, 4, 1),
        ("vectorize", 1, 7260.0, 0, 0, 0),
        ("background_removal", 1, 180.0, 0, 0, 0),
    )
    assert lines[1:] == [
        "generate 0 1 0 0",
        "upscale 1,200 119.9 s 0 4 1",
        "vectorize 1 2.0 h 0 0 0",
        "background_removal 1 3.0 min 0 0 0",
    ]


def test_engines_show_failures_as_a_share_of_what_ended(printed: Print) -> None:
    lines = printed(
        Figure.ENGINES,
        "api_provider operation_type completed failed failure_rate retried"
        " wait_p50_seconds wait_p95_seconds run_p50_seconds run_p95_seconds",
        ("waifu2x", "upscale", 30, 10, 0.25, 2, 1.0, 2.0, 3.0, 4.0),
        ("unassigned", "upscale", 0, 1, 1.0, 0, None, None, None, None),
    )
    assert lines[1:] == [
        "waifu2x upscale 30 10 25 % 2 1.0 s 2.0 s 3.0 s 4.0 s",
        "unassigned upscale 0 1 100 % 0",
    ]
