"""Draws one SVG and ends: `python draw_svg.py WIDTH HEIGHT SECONDS`, SVG on standard input, PNG on standard output.

A process of its own because nothing in an SVG's text tells how long drawing it takes (a filter of 300 bytes
can take hours), and because resvg ends the process when it runs out of memory or stack. The kernel ends this
one after SECONDS of processor time. It imports nothing of the project, so that it starts in a few hundredths
of a second.
"""

from __future__ import annotations

import resource
import sys
from importlib.resources import files

import resvg_py

# Exit status when resvg says why it cannot draw the file; the reason is on standard error.
NOT_DRAWN = 3

_FONT_FILES = (
    ("font_manrope", "Manrope-Regular.ttf"),
    ("font_manrope", "Manrope-Bold.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    ("font_source_serif_pro", "SourceSerifPro-Bold.ttf"),
    ("font_fredoka_one", "FredokaOne-Regular.ttf"),
    ("font_amatic_sc", "AmaticSC-Bold.ttf"),
)


def main() -> int:
    """Draw and return the exit status."""
    width, height, seconds = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=sys.stdin.buffer.read().decode(),
            width=width,
            height=height,
            skip_system_fonts=True,
            font_files=[str(files(package) / "files" / name) for package, name in _FONT_FILES],
            font_family="Manrope",
            sans_serif_family="Manrope",
            monospace_family="Manrope",
            serif_family="Source Serif Pro",
            cursive_family="Amatic SC",
            fantasy_family="Fredoka One",
        )
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201 - read by the process that started this one
        return NOT_DRAWN
    sys.stdout.buffer.write(png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
