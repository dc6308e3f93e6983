"""`dtf stats`: the figures of the business, as the database works them out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from cli.output import AsJson, console, errors, plain, print_json, readable_errors
from cli.project import call, connect

if TYPE_CHECKING:
    from supabase import Client

Rows = list[dict[str, Any]]

PRODUCT = ("product_type", "product_id", "currency")
SALES = ("payments", "credits", "received", "returned", "net")
WORK = ("operations", "credits", "free_credits", "provider_calls", "provider_cost", "margin")
LEVELS = "▁▂▃▄▅▆▇█"
# Of the share of a cohort that is active, from none to all.
HEAT = ("grey37", "red3", "dark_orange3", "gold3", "chartreuse4", "green3")


class Figure(StrEnum):
    """What can be asked for."""

    REVENUE = "revenue"
    MARGINS = "margins"
    FUNNEL = "funnel"
    RETENTION = "retention"
    QUEUE = "queue"
    ENGINES = "engines"


def stats(
    figures: Annotated[list[Figure] | None, typer.Argument(help="Which figures. Default: all.")] = None,
    months: Annotated[int, typer.Option(min=1, max=36, help="Months to look back, the current one included.")] = 12,
    hours: Annotated[int, typer.Option(min=1, max=24 * 366, help="Hours to look back on the engines.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Print revenue, margins, the funnel, retention, the queue and the engines. Months and days are UTC."""
    now = datetime.now(UTC)
    calendar = last_months(now.date(), months)
    asked = list(dict.fromkeys(figures or Figure))
    with readable_errors(), errors.status("Counting"):
        client = connect()
        while call(client, "refresh_stats"):
            pass
        found = {figure: ask(client, figure, calendar, now, hours) for figure in asked}
    if as_json:
        print_json(found)
        return
    for figure, rows in found.items():
        title = TITLES[figure].format(months=months, hours=hours)
        console.print(f"\n[bold cyan]{title}[/bold cyan]")
        if rows:
            SHOW[figure](rows, calendar)
        else:
            console.print("Empty." if figure is Figure.QUEUE else "Nothing yet.", style="dim")


def last_months(today: date, count: int) -> list[date]:
    """The first days of the last `count` months, the current one included."""
    newest = today.year * 12 + today.month - 1
    return [date(month // 12, month % 12 + 1, 1) for month in range(newest - count + 1, newest + 1)]


def ask(client: Client, figure: Figure, calendar: Sequence[date], now: datetime, hours: int) -> Rows:
    """One figure of the database, over its period."""
    arguments: dict[str, str] = {}
    if figure is Figure.ENGINES:
        arguments = {"from": (now - timedelta(hours=hours)).isoformat(), "to": now.isoformat()}
    elif figure is not Figure.QUEUE:
        arguments = {"first_month": calendar[0].isoformat(), "last_month": calendar[-1].isoformat()}
    rows: Rows = call(client, f"stats_{figure}", **arguments)
    return [{key: as_number(value) if is_decimal(key) else value for key, value in row.items()} for row in rows]


def is_decimal(column: str) -> bool:
    """Whether a column holds decimals: they arrive as JSON numbers, or from some servers as text."""
    return column in ("received", "returned", "net", "provider_cost", "margin") or column.endswith(
        ("_seconds", "_rate")
    )


def as_number(value: Any) -> float | None:
    """A decimal as a number, none as none."""
    return None if value is None else float(value)


def table(*columns: str, words: int = 1) -> Table:
    """An empty table whose first `words` columns hold words, the others numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < words else "right", no_wrap=True)
    return made


def show(made: Table) -> None:
    """Print a table at its whole width: on a narrow terminal a wrapped line says more than half a number."""
    made.width = console.measure(made, options=console.options.update(width=1000)).maximum
    console.print(made, crop=False)


def amount(value: Any) -> str:
    """Money with two decimals, or four where it is less than a unit; red below zero, empty for none."""
    if value is None:
        return ""
    number = float(value)
    text = f"{number:,.2f}" if abs(number) >= 1 or round(number, 4) == round(number, 2) else f"{number:,.4f}"
    return f"[red]{text}[/red]" if number < 0 else text


def seconds(value: Any) -> str:
    """A duration, in seconds, or in minutes and hours when it is long."""
    if value is None:
        return ""
    length = float(value)
    if length < 120:
        return f"{length:,.1f} s"
    return f"{length / 60:,.1f} min" if length < 7200 else f"{length / 3600:,.1f} h"


def share(part: int, whole: int) -> str:
    """A part as a percentage of the whole."""
    return f"{100 * part / whole:.0f} %" if whole else ""


def sparkline(values: Sequence[float]) -> str:
    """One bar for each value, the highest as high as a line; nothing below zero."""
    highest = max(0.0, *values)
    return "".join(
        LEVELS[round(max(value, 0) / highest * (len(LEVELS) - 1))] if highest else LEVELS[0] for value in values
    )


def month_name(text: str) -> str:
    """2026-11 of 2026-11-01."""
    return text[:7]


def show_revenue(rows: Rows, calendar: Sequence[date]) -> None:
    """The net of every month by currency, then what each product brought in over the period."""
    currencies = sorted({row["currency"] for row in rows})
    net = totals(rows, ("month", "currency"), ("net",))
    months = table("Month", *currencies)
    for month in (day.isoformat() for day in calendar):
        months.add_row(month_name(month), *(amount(net[month, currency]["net"]) for currency in currencies))
    show(months)
    console.print()

    products = table("Product", "Currency", "Payments", "Credits", "Received", "Returned", "Net", "By month", words=2)
    for (_, _, currency), total in sorted(totals(rows, PRODUCT, SALES).items(), key=lambda item: -item[1]["net"]):
        products.add_row(
            plain(total["product"]), currency, f"{total['payments']:,}", f"{total['credits']:,}",
            *(amount(total[key]) for key in ("received", "returned", "net")), course(total, "net", calendar),
        )  # fmt: skip
    show(products)


def show_margins(rows: Rows, calendar: Sequence[date]) -> None:
    """What each operation earned and cost over the period."""
    currencies = sorted({currency for row in rows for currency in row["earned"]})
    margins = table(
        "Operation", "Charged", "Credits", "Free", *currencies, "Calls", "Cost USD", "Margin USD", "By month"
    )
    for (operation,), total in totals(rows, ("operation_type",), WORK).items():
        earned = [sum(float(row["earned"].get(currency, 0)) for row in total["rows"]) for currency in currencies]
        in_dollars = all(row["margin"] is not None for row in total["rows"])
        margins.add_row(
            plain(operation), f"{total['operations']:,}", f"{total['credits']:,}", f"{total['free_credits']:,}",
            *map(amount, earned), f"{total['provider_calls']:,}", amount(total["provider_cost"]),
            amount(total["margin"]) if in_dollars else "", course(total, "credits", calendar),
        )  # fmt: skip
    show(margins)
    if unpriced := sum(row["unpriced_calls"] for row in rows):
        console.print(f"The cost of {unpriced:,} calls is not known, so margins are at most these.", style="yellow")


def totals(rows: Rows, keys: tuple[str, ...], sums: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The sums of rows by their keys, each with the newest name of its product and its rows."""
    found: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(lambda: dict.fromkeys(sums, 0) | {"rows": []})
    for row in rows:
        total = found[tuple(row[key] for key in keys)]
        total["rows"].append(row)
        total["product"] = row.get("product")
        for key in sums:
            total[key] += row[key] or 0
    return found


def course(total: dict[str, Any], key: str, calendar: Sequence[date]) -> str:
    """A value month by month, as a line of bars."""
    monthly: dict[str, float] = defaultdict(float)
    for row in total["rows"]:
        monthly[row["month"]] += float(row[key])
    return f"[green]{sparkline([monthly[month.isoformat()] for month in calendar])}[/green]"


def show_funnel(rows: Rows, _: Sequence[date]) -> None:
    """How many of those who signed up went on."""
    steps = ("uploaded", "operated", "paid")
    funnel = table("Signed up", "Accounts", *(column for step in steps for column in (step.title(), "")))
    total = {key: sum(row[key] for row in rows) for key in ("signed_up", *steps)}
    for row in (*rows, total | {"month": "All"}):
        counts = (cell for step in steps for cell in (f"{row[step]:,}", share(row[step], row["signed_up"])))
        funnel.add_row(
            month_name(row["month"]), f"{row['signed_up']:,}", *counts, style="bold" if row["month"] == "All" else None
        )
    show(funnel)


def show_retention(rows: Rows, _: Sequence[date]) -> None:
    """A row for each cohort: how many percent used credits in the month of the sign-up (0) and in those after."""
    cohorts: dict[str, Rows] = defaultdict(list)
    for row in rows:
        cohorts[row["cohort"]].append(row)
    retention = table("Signed up", "Accounts", *map(str, range(max(map(len, cohorts.values())))))
    for cohort, cells in cohorts.items():
        retention.add_row(month_name(cohort), f"{cells[0]['accounts']:,}", *map(heat, cells))
    show(retention)


def heat(cell: dict[str, Any]) -> str:
    """The active percentage of a cohort in a month, green where many are."""
    colour = HEAT[round(cell["active"] / cell["accounts"] * (len(HEAT) - 1))]
    return f"[{colour}]{100 * cell['active'] / cell['accounts']:.0f}[/{colour}]"


def show_queue(rows: Rows, _: Sequence[date]) -> None:
    """What waits and runs at this moment."""
    queue = table("Operation", "Waiting", "Oldest", "Delayed", "Running", "Lost")
    for row in rows:
        lost = f"[red]{row['lost']:,}[/red]" if row["lost"] else "0"
        queue.add_row(
            row["operation_type"], f"{row['waiting']:,}", seconds(row["oldest_wait_seconds"]), f"{row['delayed']:,}",
            f"{row['running']:,}", lost,
        )  # fmt: skip
    show(queue)


def show_engines(rows: Rows, _: Sequence[date]) -> None:
    """How the engines did: failures, waits and runs."""
    engines = table(
        "Engine", "Operation", "Done", "Failed", "", "Retried", "Wait p50", "p95", "Run p50", "p95", words=2
    )
    for row in rows:
        rate = share(row["failed"], row["completed"] + row["failed"])
        times = ("wait_p50_seconds", "wait_p95_seconds", "run_p50_seconds", "run_p95_seconds")
        engines.add_row(
            plain(row["api_provider"]), row["operation_type"], f"{row['completed']:,}", f"{row['failed']:,}",
            f"[red]{rate}[/red]" if row["failed"] else rate, f"{row['retried']:,}",
            *(seconds(row[key]) for key in times),
        )  # fmt: skip
    show(engines)


TITLES = {
    Figure.REVENUE: "Revenue, {months} months",
    Figure.MARGINS: "Earned and spent by operation, {months} months",
    Figure.FUNNEL: "From sign-up to payment, {months} months",
    Figure.RETENTION: "Percent of a month's sign-ups who used credits, in that month (0) and after",
    Figure.QUEUE: "Queue, now",
    Figure.ENGINES: "Engines, {hours} hours",
}
SHOW: dict[Figure, Callable[[Rows, Sequence[date]], None]] = {
    Figure.REVENUE: show_revenue,
    Figure.MARGINS: show_margins,
    Figure.FUNNEL: show_funnel,
    Figure.RETENTION: show_retention,
    Figure.QUEUE: show_queue,
    Figure.ENGINES: show_engines,
}
