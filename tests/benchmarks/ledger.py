"""The ledger against the least that an entry can cost."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Database

SECTION = "Ledger"
GOAL = 0.8
HOT_GOAL = 0.5

# An account's id is its number in hexadecimal.
ANYBODY, HOT_USER = "\\set n random(2, {people})\n", "\\set n 1\n"
USER = "lpad(to_hex(:n::int), 32, '0')::uuid"
CALLS = {
    "deduct": f"select public.deduct_user_credits({USER}, 1, 'usage');",
    "add": f"select public.add_user_credits({USER}, 1, 'bonus');",
    "ceiling of deduct": f"select ceiling.post({USER}, -1, 'usage');",
    "ceiling of add": f"select ceiling.post({USER}, 1, 'bonus');",
}


def run(database: Database, effort: Effort, report: Progress) -> Iterator[Figure]:
    """deduct and add beside the ceiling, and a hot user with many clients beside the same with few."""
    picks = {f"{effort.people:,} users": ANYBODY.format(people=effort.people), "one hot user": HOT_USER}
    hot: dict[int, tuple[float, ...]] = {}
    for whom, pick in picks.items():
        for clients in effort.clients:
            report(f"ledger: {whom}, {clients} clients")
            calls = {name: database.timed(pick + call, effort.seconds, clients=clients) for name, call in CALLS.items()}
            rates = in_turn(calls, effort.rounds)
            hot[clients] = rates["deduct"]
            for name in ("deduct", "add"):
                what = f"{name}, {whom}, {clients} client{'s' if clients > 1 else ''}"
                yield Figure(SECTION, what, rates[name], "update + insert", rates[f"ceiling of {name}"], "/s", GOAL)
    few, many = effort.clients[1], effort.clients[-1]
    what = f"deduct, one hot user, {many} clients"
    yield Figure(SECTION, what, hot[many], f"{few} clients", hot[few], "/s", HOT_GOAL)
    prove(database)


def prove(database: Database) -> None:
    """Fast and wrong is no figure: stop where the ledger does not add up after all this."""
    with database.connect() as connection:
        violated = connection.execute("select * from public.verify_ledger() limit 5").fetchall()
    if violated:
        raise RuntimeError(f"The ledger is broken after the benchmark: {violated}")
