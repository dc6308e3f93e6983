"""`python -m tests.benchmarks [part …]`: measures, prints a table, and writes a plot into bench-output/.

Nothing here asserts a time. Figures are ratios against a neighbour in the same round; the machine's own speed, and
what else it does meanwhile, drop out as far as they can.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from local.stack import PROJECT
from tests.benchmarks import cutouts, disk, report
from tests.benchmarks.measure import FULL
from tests.benchmarks.suite import PARTS, measure

OUTPUT = PROJECT / "bench-output"
PRINTED_WIDTH = 170  # where no terminal tells its own


def main() -> None:
    """Measure what the command line names, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"one of {', '.join(PARTS)}; all by default")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    console = Console(width=None if sys.stdout.isatty() else PRINTED_WIDTH)
    with console.status("starting") as status:
        progress = status.update if console.is_terminal else console.print
        if "cutouts" in parts:
            cutouts.run(console, progress, OUTPUT)
        figures = list(measure(parts, FULL, progress))
    if not figures:
        return
    console.print(report.table(figures))
    if any(disk.WITH in figure.section for figure in figures):
        console.print(disk.NOTE, highlight=False)
    console.print(f"Plot and raw values: {report.save(figures, OUTPUT)}", highlight=False)


if __name__ == "__main__":
    main()
