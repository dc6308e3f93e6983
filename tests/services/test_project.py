"""What a project refuses and what it does not answer, told apart in one place."""

import asyncio
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AuthError

from services.billing import database
from services.project import RefusedError, UnavailableError, answers, request

REFUSAL = {"code": "PT402", "message": "Not enough credits", "details": '{"missing": 1}', "hint": "Buy some."}


def refused(error: Exception) -> RefusedError:
    with pytest.raises(RefusedError) as raised, answers("it"):
        raise error
    return raised.value


def test_a_refusal_of_the_database_says_all_that_it_said() -> None:
    error = refused(APIError(REFUSAL))
    assert (error.status, error.body) == (402, REFUSAL)
    assert str(error) == "it was refused: PT402 Not enough credits"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (APIError({"code": "42501", "message": "permission denied"}), 500, "it was refused: 42501 permission denied"),
        (StorageApiError("Too large", "EntityTooLarge", 413), 413, "Storage refused it: Too large"),
        (AuthError("Signups not allowed", "signup_disabled"), 500, "Auth refused it: Signups not allowed"),
    ],
)
def test_each_part_of_a_project_refuses_in_one_way(error: Exception, status: int, told: str) -> None:
    found = refused(error)
    assert (found.status, str(found)) == (status, told)


def test_no_connection_is_no_refusal() -> None:
    with pytest.raises(UnavailableError, match=r"^it: ConnectError gone$"), answers("it"):
        raise httpx.ConnectError("gone")


def test_what_takes_too_long_is_without_an_answer() -> None:
    async def ask() -> None:
        async with request("it", 0.01):
            await asyncio.sleep(60)

    with pytest.raises(UnavailableError, match=r"^it got no answer in 0\.01 s$"):
        asyncio.run(ask())


def test_a_call_of_billing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def rpc(self, *_: Any) -> "Silent":
            return self

        async def execute(self) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr(database, "CALL_TIMEOUT", 0.01)
    silent: Any = Silent()
    with pytest.raises(UnavailableError, match="start_stripe_read got no answer"):
        asyncio.run(database.Database(silent).start_read())
