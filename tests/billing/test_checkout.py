"""Payment pages and the portal: who may ask, for what, and where the way back may lead."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from local.stack import Stack, StackStatus
from tests.billing.service_process import ORIGIN, ServiceProcess
from tests.billing.shop import PACKAGE, Shop
from tests.billing.stripe_double import StripeDouble
from tests.database.personas import UNKNOWN, Connection, Person
from tests.e2e.people import sign_up


@pytest.fixture
def user(shop: Shop) -> Person:
    return shop.people.new()


@pytest.fixture
def secret(local_stack: Stack) -> str:
    return local_stack.state.jwt_secret


def token(user: Person, secret: str, **claims: Any) -> str:
    now = int(time.time())
    usual = {"sub": str(user.id), "role": "authenticated", "aud": "authenticated", "iat": now, "exp": now + 600}
    return jwt.encode({name: value for name, value in (usual | claims).items() if value is not None}, secret)


class Page:
    """The web client of one user."""

    def __init__(self, service: ServiceProcess, user: Person, secret: str) -> None:
        self.http = service.http
        self.headers = {"authorization": f"Bearer {token(user, secret)}", "origin": ORIGIN}

    def post(self, path: str = "/checkout", **body: Any) -> httpx.Response:
        return self.http.post(path, json=body, headers=self.headers)


@pytest.fixture
def page(service: ServiceProcess, user: Person, secret: str) -> Page:
    return Page(service, user, secret)


def sessions(stripe: StripeDouble, user: Person) -> list[Any]:
    return [
        item
        for item in stripe.account.all("checkout.session")
        if item.get("metadata", {}).get("user_id") == str(user.id)
    ]


def test_a_signed_up_user_gets_a_payment_page_for_a_price(
    stack: StackStatus, service: ServiceProcess, shop: Shop, stripe: StripeDouble
) -> None:
    person = sign_up(stack)
    session = person.api.auth.get_session()
    assert session is not None
    answer = service.http.post(
        "/checkout",
        json={"price_id": shop.pack["id"]},
        headers={"authorization": f"Bearer {session.access_token}"},
    )
    assert answer.json()["url"].startswith(f"{stripe.url}/pay/"), answer.text
    (made,) = [
        item for item in stripe.account.all("checkout.session") if item.get("metadata", {}).get("user_id") == person.id
    ]
    assert (made["mode"], made["success_url"]) == ("payment", f"{ORIGIN}/")
    shop.account.pay(made["id"])
    assert service.deliver(stripe.account.events()[-1]).status_code == 200
    assert person.credits() == 12


def test_plans_and_packages_go_by_name_and_id_too(page: Page, stripe: StripeDouble, user: Person) -> None:
    way_back = {"success_url": f"{ORIGIN}/thanks?x=1", "cancel_url": f"{ORIGIN}/prices"}
    for product in ({"plan": "basic"}, {"package": PACKAGE}):
        assert page.post(**product, **way_back).status_code == 200
    modes = {item["mode"]: item for item in sessions(stripe, user)}
    assert set(modes) == {"subscription", "payment"}
    assert modes["payment"]["success_url"] == way_back["success_url"]
    assert modes["payment"]["cancel_url"] == way_back["cancel_url"]


def test_an_account_has_one_customer_however_often_it_asks_at_once(
    page: Page, stripe: StripeDouble, user: Person
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: page.post(package=PACKAGE), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    customers = [item for item in stripe.account.all("customer") if item["metadata"] == {"user_id": str(user.id)}]
    assert len(customers) == 1
    assert customers[0]["email"] == user.email
    assert {item["customer"] for item in sessions(stripe, user)} == {customers[0]["id"]}


def test_a_customer_that_was_deleted_is_replaced(
    page: Page, stripe: StripeDouble, user: Person, db: Connection
) -> None:
    page.post("/portal")
    db.execute("update public.profiles set stripe_customer_id = null where id = %s", (user.id,))
    assert page.post("/portal").status_code == 200
    customers = [item for item in stripe.account.all("customer") if item["metadata"] == {"user_id": str(user.id)}]
    assert len(customers) == 2


def test_the_same_plan_again_gives_the_same_page_and_another_plan_closes_it(
    page: Page, stripe: StripeDouble, user: Person
) -> None:
    first, again = page.post(plan="basic").json(), page.post(plan="basic").json()
    assert first == again
    assert page.post(plan="starter").status_code == 200
    assert sorted(item["status"] for item in sessions(stripe, user)) == ["expired", "open"]


def test_plans_asked_for_at_once_leave_one_open_page(page: Page, stripe: StripeDouble, user: Person) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda plan: page.post(plan=plan), ["basic", "starter"] * 4))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len([item for item in sessions(stripe, user) if item["status"] == "open"]) <= 1


def test_a_paid_page_is_noticed_before_its_event(page: Page, stripe: StripeDouble, user: Person) -> None:
    page.post(plan="basic")
    (session,) = sessions(stripe, user)
    stripe.account.pay(session["id"])
    for plan in ("starter", "basic"):
        answer = page.post(plan=plan)
        assert (answer.status_code, len(sessions(stripe, user))) == (409, 1), answer.text
    assert user.sql("select subscription_plan from public.profiles") == [{"subscription_plan": "basic"}]


def test_a_trial_is_for_the_first_subscription_only(
    page: Page, stripe: StripeDouble, user: Person, db: Connection
) -> None:
    db.execute("update public.subscription_plans set trial_days = 7 where name = 'basic'")
    try:
        page.post(plan="basic")
        (first,) = sessions(stripe, user)
        assert first["subscription_data"]["trial_period_days"] == "7"
        stripe.account.expire(first["id"])
        db.execute("update public.billing_orders set status = 'expired', closed_at = now()")
        db.execute(
            "insert into public.subscription_history (user_id, status, started_at, ended_at)"
            " values (%s, 'cancelled', now(), now())",
            (user.id,),
        )
        page.post(plan="basic")
        assert "trial_period_days" not in sessions(stripe, user)[0]["subscription_data"]
    finally:
        db.execute("update public.subscription_plans set trial_days = 0 where name = 'basic'")


def customers(stripe: StripeDouble, user: Person) -> list[Any]:
    return [item for item in stripe.account.all("customer") if item["metadata"] == {"user_id": str(user.id)}]


@pytest.mark.parametrize("is_known", [True, False], ids=["deleted", "never heard of"])
@pytest.mark.parametrize("path", ["/checkout", "/portal"])
def test_a_customer_who_was_deleted_unheard_is_replaced(
    page: Page, stripe: StripeDouble, user: Person, path: str, is_known: bool
) -> None:
    product = {"package": PACKAGE} if path == "/checkout" else {}
    assert page.post(path, **product).status_code == 200
    (first,) = customers(stripe, user)
    stripe.account.delete_customer(first)
    if not is_known:
        stripe.account.objects.pop(first["id"])
    answer = page.post(path, **product)
    assert answer.status_code == 200, answer.text
    second, _ = customers(stripe, user)
    assert user.sql("select stripe_customer_id from public.profiles") == [{"stripe_customer_id": second["id"]}]


def test_stripe_is_told_the_account_s_new_address_and_leaves_what_the_customer_chose(
    page: Page, stripe: StripeDouble, user: Person, db: Connection
) -> None:
    page.post("/portal")
    (customer,) = customers(stripe, user)
    customer["email"] = "accounts@example.test"
    page.post("/portal")
    assert customer["email"] == "accounts@example.test"
    address = f"{uuid.uuid4().hex}@example.test"
    db.execute("update auth.users set email = %s where id = %s", (address, user.id))
    for path, product in (("/portal", {}), ("/checkout", {"package": PACKAGE})):
        assert page.post(path, **product).status_code == 200
        assert customer["email"] == address


def test_the_portal_is_that_of_the_own_customer(page: Page, stripe: StripeDouble, user: Person) -> None:
    answer = page.post("/portal", return_url=f"{ORIGIN}/account")
    assert answer.json()["url"].startswith(f"{stripe.url}/portal/")
    (customer,) = customers(stripe, user)
    (made,) = stripe.account.all("billing_portal.session", customer=customer["id"])
    assert made["return_url"] == f"{ORIGIN}/account"


# Refusals.


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/",
        f"{ORIGIN}.evil.test/",
        f"{ORIGIN}@evil.test/",
        f"{ORIGIN}\\@evil.test/",
        "//app.example.test/",
        "javascript:alert(1)",
        "http://app.example.test/",
        "",
    ],
)
def test_the_way_back_leads_to_a_configured_origin(page: Page, stripe: StripeDouble, user: Person, url: str) -> None:
    for answer in (page.post(package=PACKAGE, success_url=url), page.post("/portal", return_url=url)):
        assert (answer.status_code, answer.json()["code"]) == (400, "PT400")
    assert sessions(stripe, user) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"plan": "basic", "package": PACKAGE}, 400),
        ({"plan": "nothing"}, 404),
        ({"plan": "free"}, 404),
        ({"package": "x"}, 400),
        ({"package": str(UNKNOWN)}, 404),
        ({"price_id": "price_of_nothing"}, 404),
        ({"plan": 1}, 400),
        ({"plan": "basic", "quantity": 100}, 400),
        ({"plan": "x" * 20_000}, 413),
    ],
    ids=str,
)
def test_a_wrong_request_is_refused(page: Page, body: dict[str, Any], status: int) -> None:
    answer = page.post(**body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"code", "message", "details", "hint"}


def refused_token(service: ServiceProcess, authorization: str | None) -> None:
    headers = {"authorization": authorization} if authorization is not None else {}
    for path in ("/checkout", "/portal"):
        answer = service.http.post(path, json={}, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), answer.text


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_700_000_000},
        {"exp": None},
        {"sub": None},
        {"aud": "other"},
        {"role": "anon"},
        {"role": "service_role"},
        {"iss": "https://other.supabase.co/auth/v1"},
    ],
    ids=str,
)
def test_a_token_that_is_expired_or_not_a_user_s_is_refused(
    service: ServiceProcess, user: Person, secret: str, claims: dict[str, Any]
) -> None:
    refused_token(service, f"Bearer {token(user, secret, **claims)}")


def test_a_forged_token_is_refused(service: ServiceProcess, user: Person, secret: str) -> None:
    good = token(user, secret)
    header, _, signature = good.split(".")
    other_user = token(user, secret, sub=str(uuid.uuid4())).split(".")[1]
    claims = jwt.decode(good, options={"verify_signature": False})
    for authorization in (
        None,
        "",
        "Bearer",
        "Bearer x",
        f"Basic {good}",
        f"Bearer {token(user, secret + 'x')}",
        f"Bearer {header}.{other_user}.{signature}",
        f"Bearer {jwt.encode(claims, '', algorithm='none')}",
        f"Bearer {jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm='ES256')}",
    ):
        refused_token(service, authorization)
    assert good not in service.log.read_text()


def test_a_token_of_a_deleted_account_buys_nothing(service: ServiceProcess, secret: str, shop: Shop) -> None:
    ghost = Person(shop.people.connection, "authenticated", uuid.uuid4())
    page = Page(service, ghost, secret)
    assert page.post(package=PACKAGE).status_code == 404
    assert page.post("/portal").status_code == 404


def test_a_deactivated_account_buys_nothing(service: ServiceProcess, secret: str, shop: Shop) -> None:
    answer = Page(service, shop.people.new(is_active=False), secret).post(package=PACKAGE)
    assert answer.status_code == 403


def test_too_many_requests_of_a_user_are_refused(page: Page, service: ServiceProcess, shop: Shop, secret: str) -> None:
    statuses = [page.post(plan="nothing").status_code for _ in range(21)]
    assert statuses == [404] * 20 + [429]
    assert Page(service, shop.people.new(), secret).post(plan="nothing").status_code == 404


def test_only_the_configured_origins_may_call_from_a_page(service: ServiceProcess) -> None:
    def preflight(origin: str) -> httpx.Response:
        return service.http.options(
            "/checkout",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            },
        )

    assert preflight(ORIGIN).headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in preflight("https://evil.test").headers


def test_while_stripe_is_down_the_answer_says_so(page: Page, stripe: StripeDouble) -> None:
    stripe.faults["customers"] = 500
    answer = page.post(package=PACKAGE)
    assert (answer.status_code, answer.json()["message"]) == (503, "Payments are not available at the moment")


def test_a_failure_at_stripe_bars_a_plan_no_longer_than_it_lasts(page: Page, shop: Shop) -> None:
    price = shop.prices["basic"]
    price["active"] = False
    try:
        assert page.post(plan="basic").status_code == 503
    finally:
        price["active"] = True
    answer = page.post(plan="basic")
    assert answer.status_code == 200, "Stripe repeats the failure of the first request with the key for a day"
    assert page.post(plan="basic").json() == answer.json()
