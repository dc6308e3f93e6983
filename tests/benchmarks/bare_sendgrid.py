"""`python -m tests.benchmarks.bare_sendgrid URL THREADS MAILS`: send mails with SendGrid's SDK as its README shows it.

Prints the calls per second.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import Mail

from tests.email.sendgrid_double import KEY

# About as long as a welcome in the layout that our mails have.
HTML = "<p>Your account is ready and holds 2 credits.</p>" * 200


def main(url: str, threads: int, mails: int) -> None:
    """Send all, so many at a time."""
    client = SendGridAPIClient(KEY, url)

    def send(number: int) -> None:
        mail = Mail("hello@example.test", f"{number}@example.test", "Welcome", "Your account is ready", HTML)
        answer = client.send(mail)
        if answer.status_code != 202:
            raise RuntimeError(f"The double answered {answer.status_code}.")

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(send, range(mails)))
        print(mails / (time.perf_counter() - started))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
