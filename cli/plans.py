"""`dtf plans`: what is for sale, and what an operation costs. Stripe follows with `dtf stripe sync`."""

from typing import Annotated, Any

import typer

from cli.errors import CommandError
from cli.output import AsJson, console, done, print_json, print_rows, readable_errors
from cli.project import answers, connect, count, counted

app = typer.Typer(help="What is for sale, and what an operation costs.", no_args_is_help=True)

HIGHEST_PRICE = 99_999_999.99  # that its column holds

Name = Annotated[str, typer.Argument(metavar="NAME")]
Credits = Annotated[int | None, typer.Option(min=0, max=1_000_000)]
DailyBound = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="After so many within a day an account has to wait.")
]
Price = Annotated[
    float | None, typer.Option(min=0, max=HIGHEST_PRICE, help="In the currency of the catalogue, such as 9.99.")
]
Description = Annotated[str | None, typer.Option()]
IsActive = Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it is offered.")]

STRIPE_HINT = "Bring it to Stripe with: dtf stripe sync"
COLUMNS = {
    "catalogue_settings": {"currency": "Currency of the prices"},
    "subscription_plans": {
        "name": "Plan",
        "monthly_price": "A month",
        "credits_per_month": "Credits a month",
        "credit_rollover_months": "Rollover months",
        "trial_days": "Trial days",
        "trial_credits": "Trial credits",
        "is_active": "Active",
        "stripe_price_id": "At Stripe",
    },
    "pay_as_you_go_packages": {
        "name": "Package",
        "price": "Price",
        "credits": "Credits",
        "is_active": "Active",
        "stripe_price_id": "At Stripe",
        "id": "Id",
    },
    "operation_types": {
        "name": "Operation",
        "title": "Title",
        "works_on": "Works on",
        "credits": "Credits",
        "daily_failures": "Failures a day",
        "daily_cancellations": "Cancellations a day",
        "is_active": "Active",
    },
}

ORDER = {"catalogue_settings": "name"}


@app.command("list")
def list_plans(as_json: AsJson = False) -> None:
    """List plans, packages and the prices of operations."""
    with readable_errors(), answers():
        client = connect()
        found: dict[str, Any] = {}
        for table in COLUMNS:
            found[table] = client.table(table).select("*").order(ORDER.get(table, "sort_order")).execute().data
    if as_json:
        print_json(found)
        return
    for table, rows in found.items():
        print_rows(rows, COLUMNS[table])
        console.print()


@app.command()
def currency(code: Annotated[str, typer.Argument(metavar="CODE", help="Three letters, such as EUR.")]) -> None:
    """Change the currency of all prices. Who has a plan already goes on paying in the one before."""
    with readable_errors(), answers():
        connect().table("catalogue_settings").update({"currency": code.upper()}).eq("name", "catalogue").execute()
    done(f"Prices are in {code.upper()}. {STRIPE_HINT}")


@app.command()
def plan(
    name: Name,
    monthly_price: Price = None,
    credits_per_month: Credits = None,
    rollover_months: Annotated[int | None, typer.Option(min=0, max=120, help="How long credits outlast it.")] = None,
    trial_days: Annotated[int | None, typer.Option(min=0, max=365)] = None,
    trial_credits: Credits = None,
    description: Description = None,
    active: IsActive = None,
) -> None:
    """Change a plan, or make one. Who has it already keeps its price."""
    values = {
        "monthly_price": monthly_price,
        "credits_per_month": credits_per_month,
        "credit_rollover_months": rollover_months,
        "trial_days": trial_days,
        "trial_credits": trial_credits,
        "description": description,
        "is_active": active,
    }
    with readable_errors():
        word = _write("subscription_plans", "name", name, values, needed=("monthly_price", "credits_per_month"))
    done(f"The plan {name} is {word}. {STRIPE_HINT}")


@app.command()
def package(
    name: Name,
    price: Price = None,
    credits: Credits = None,
    description: Description = None,
    active: IsActive = None,
) -> None:
    """Change a package, or make one."""
    values = {"price": price, "credits": credits, "description": description, "is_active": active}
    with readable_errors():
        word = _write("pay_as_you_go_packages", "name", name, values, needed=("price", "credits"))
    done(f"The package {name} is {word}. {STRIPE_HINT}")


@app.command()
def operation(
    name: Name,
    credits: Credits = None,
    daily_failures: DailyBound = None,
    daily_cancellations: DailyBound = None,
    active: IsActive = None,
) -> None:
    """Change what an operation costs, its bounds, or whether it is offered. What was requested keeps its price."""
    values = {
        "credits": credits,
        "daily_failures": daily_failures,
        "daily_cancellations": daily_cancellations,
        "is_active": active,
    }
    with readable_errors():
        _write("operation_types", "name", name, values)
    done(f"The operation {name} is changed.")


def _write(table: str, key: str, name: str, values: dict[str, Any], needed: tuple[str, ...] = ()) -> str:
    """Change the one row that has the name, or make it where `needed` says what that takes; tells which."""
    given = {column: value for column, value in values.items() if value is not None}
    if not given:
        raise CommandError("Nothing to change: give at least one option. See --help.")
    with answers():
        client = connect()
        rows = client.table(table)
        found = count(counted(client, table).eq(key, name))
        if found == 1:
            rows.update(given).eq(key, name).execute()
            return "changed"
        if found:
            raise CommandError(f"{found} of them are called {name}. Rename all but one, or change them in SQL.")
        if not needed:
            there: Any = rows.select(key).order("sort_order").execute().data
            names = ", ".join(row[key] for row in there)
            raise CommandError(f"There is no {name}. There are: {names}.")
        if missing := [column for column in needed if column not in given]:
            options = " and ".join(f"--{column.replace('_', '-')}" for column in missing)
            raise CommandError(f"There is no {name} yet. To make it, give {options} too.")
        rows.insert({key: name, **given}).execute()
    return "made"
