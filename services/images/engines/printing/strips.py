"""Going through a picture in strips of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_ROWS = 512


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows of a picture, and those that are looked at for them: `outer`, of which `inner` is kept."""

    rows: slice
    outer: slice
    inner: slice


def strips(height: int, halo: int = 0) -> Iterator[Strip]:
    """The strips of a picture of `height` rows; each sees `halo` rows more above and below, as far as there are."""
    for top in range(0, height, _ROWS):
        bottom = min(height, top + _ROWS)
        first, last = max(0, top - halo), min(height, bottom + halo)
        yield Strip(slice(top, bottom), slice(first, last), slice(top - first, bottom - first))
