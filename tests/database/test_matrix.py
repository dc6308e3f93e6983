"""The persona matrix: what everybody can do with every table is exactly what matrix.txt says."""

import difflib

from tests.database import matrix
from tests.database.personas import Connection, People


def test_everybody_does_exactly_what_the_matrix_says(people: People, db: Connection) -> None:
    world = matrix.build(people)
    try:
        actual = matrix.render(matrix.probe(world)).splitlines()
    finally:
        world.remove(db)
    difference = "\n".join(
        difflib.unified_diff(
            matrix.EXPECTED.read_text().splitlines(), actual, "matrix.txt", "database", n=2, lineterm=""
        )
    )
    assert not difference, f"{difference}\nIf it is meant: python -m tests.database.matrix --write"
