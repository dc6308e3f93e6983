"""The benchmarks run on the schema as it is: small amounts, and no word on speed."""

import pytest

from tests.benchmarks import disk
from tests.benchmarks.measure import Effort
from tests.benchmarks.suite import measure

SMALL = Effort(rounds=1, slow_rounds=1, seconds=0.01, jobs=20, people=300, clients=(1, 2), sizes=(100, 200))


def test_every_database_benchmark_gives_figures(capsys: pytest.CaptureFixture[str]) -> None:
    figures = list(measure(("ledger", "listing", "queue", "figures"), SMALL, print))
    sections = {figure.section for figure in figures}
    assert {section.split(",")[0] for section in sections} == {
        "Ledger",
        "Row level security",
        "Queue",
        "Figures of the business",
    }
    assert {f"Ledger, {disk.WITH}", f"Ledger, {disk.WITHOUT}"} < sections
    assert all(figure.ratio > 0 for figure in figures)
    assert "making 300 accounts" in capsys.readouterr().out
