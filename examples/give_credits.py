"""Gives credits to the people in a CSV file with the columns email, credits, reason.

python examples/give_credits.py people.csv

Run it as often as you like: the key of each gift is made from its line, and the ledger books a key once.
"""

import csv
import hashlib
import os
import sys
from pathlib import Path

from postgrest.exceptions import APIError
from supabase import create_client


def main(people: Path) -> int:
    """Give what the file says; the number of lines that failed, each with its reason on stderr."""
    supabase = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_SECRET_KEY"])
    failed = 0
    with people.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                found = supabase.table("profiles").select("id").eq("email", line["email"].lower()).execute().data
                if not found:
                    raise ValueError("nobody has this address")
                gift = {
                    "p_user_id": found[0]["id"],
                    "p_amount": int(line["credits"]),
                    "p_transaction_type": "bonus",
                    "p_description": line["reason"],
                    "p_idempotency_key": hashlib.sha256("\0".join(line.values()).encode()).hexdigest(),
                }
                grant = supabase.rpc("grant_credits", gift).execute().data
                print(f"{line['email']}: {grant['amount']} credits")
            except (ValueError, APIError) as error:
                failed += 1
                print(f"line {number}, {line['email']}: {getattr(error, 'message', error)}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
