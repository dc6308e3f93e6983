"""Requests that nobody thought of: none may end in an unhandled error, and none may move a credit."""

import json
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from local.stack import Stack
from local.stripe import WEBHOOK_SECRET, signature
from services.billing.openapi import document
from tests.billing.service_process import ServiceProcess
from tests.billing.shop import Shop
from tests.billing.test_checkout import token
from tests.database.personas import Connection, People, Person

EXAMPLES = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TYPES = [
    "checkout.session.completed",
    "invoice.paid",
    "customer.subscription.updated",
    "refund.created",
    "charge.dispute.closed",
    "customer.deleted",
    "price.updated",
    "something.else",
]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
FIELDS = ["id", "object", "customer", "payment_intent", "subscription", "parent", "status", "lines", "items", "mode"]
objects = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values, max_size=6)


def ledger(db: Connection) -> Any:
    return db.execute("select count(*), sum(amount) from public.credit_transactions").fetchall()


def answered(service: ServiceProcess, body: bytes) -> Any:
    answer = service.post(body, signature(body, WEBHOOK_SECRET))
    assert answer.headers["content-type"] == "application/json", (body, answer.text)
    assert answer.status_code in (200, 400, 413, 500)
    return answer.json()


@EXAMPLES
@given(body=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_signed_body_is_answered(service: ServiceProcess, db: Connection, body: bytes) -> None:
    before = ledger(db)
    answered(service, body)
    assert ledger(db) == before


@EXAMPLES
@given(
    event=st.fixed_dictionaries(
        {
            "id": st.text(min_size=1, max_size=30) | values,
            "object": st.just("event"),
            "livemode": st.just(False) | values,
            "type": st.sampled_from(TYPES) | values,
            "data": st.fixed_dictionaries({"object": objects}) | values,
        }
    )
)
def test_any_event_is_answered(service: ServiceProcess, db: Connection, event: dict[str, Any]) -> None:
    before = ledger(db)
    answered(service, json.dumps(event).encode())
    assert ledger(db) == before


@EXAMPLES
@given(data=st.data())
def test_a_real_event_with_any_other_object_moves_nothing(
    service: ServiceProcess, shop: Shop, db: Connection, data: st.DataObject
) -> None:
    event = {"id": f"evt_{data.draw(st.uuids()).hex}", "object": "event", "livemode": False, "api_version": "x"}
    event |= {"type": data.draw(st.sampled_from(TYPES)), "data": {"object": data.draw(objects)}}
    before = ledger(db)
    answered(service, json.dumps(event).encode())
    assert ledger(db) == before


# A body that breaks the schema by its length may be refused for its size (413), which is no default.
described = schemathesis.openapi.from_dict(
    document(),
    config=SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": ["4xx", "5xx"]}}}),
)


@described.parametrize()
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_service_answers_as_its_document_says(
    service: ServiceProcess, local_stack: Stack, people: People, case: Any
) -> None:
    somebody = Person(people.connection, "authenticated", uuid4())
    case.call_and_validate(
        base_url=service.url,
        headers={"authorization": f"Bearer {token(somebody, local_stack.state.jwt_secret)}"},
        # No schema can describe which signature or return address is the right one.
        excluded_checks=[positive_data_acceptance],
    )
