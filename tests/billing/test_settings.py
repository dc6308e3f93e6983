"""Settings of the billing service."""

import os
from unittest.mock import patch

import pytest

from services.billing.settings import BillingSettings
from services.settings import SettingsError, load

USUAL = {
    "SUPABASE_URL": "https://project.supabase.test",
    "SUPABASE_SECRET_KEY": "sb_secret_x",
    "STRIPE_SECRET_KEY": "sk_live_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_x",
    "BILLING_ORIGINS": "https://app.example.test, https://www.example.test",
}


def test_settings_come_from_the_environment() -> None:
    with patch.dict(os.environ, USUAL, clear=True):
        settings = load(BillingSettings)
    assert (settings.is_live, settings.origins) == (True, ("https://app.example.test", "https://www.example.test"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("BILLING_ORIGINS", None, "BILLING_ORIGINS is not set"),
        ("BILLING_ORIGINS", "", "BILLING_ORIGINS cannot be used: it is empty"),
        ("BILLING_ORIGINS", "https://app.example.test/path", "without a path"),
        ("STRIPE_SECRET_KEY", "pk_live_x", "STRIPE_SECRET_KEY cannot be used: it is a publishable key,"),
        ("STRIPE_WEBHOOK_SECRET", " , ", "STRIPE_WEBHOOK_SECRET cannot be used: it is empty"),
        ("BILLING_CURRENCY", "Dollar", "BILLING_CURRENCY cannot be used: a currency is three small letters"),
        ("BILLING_HTTP_PORT", "https", "BILLING_HTTP_PORT cannot be used: it has to be a whole number."),
        ("BILLING_HTTP_PORT", "99999", "BILLING_HTTP_PORT cannot be used: it has to be at most 65535."),
        ("BILLING_REQUESTS_PER_MINUTE", "0", "BILLING_REQUESTS_PER_MINUTE cannot be used: it has to be at least 1."),
        ("STRIPE_API_URL", "http://127.0.0.1:12111", "STRIPE_API_URL cannot be used: a live key is for Stripe alone"),
    ],
)
def test_what_cannot_be_used_is_told(name: str, value: str | None, told: str) -> None:
    environment = {key: text for key, text in (USUAL | {name: value}).items() if text is not None}
    with patch.dict(os.environ, environment, clear=True), pytest.raises(SettingsError) as refused:
        load(BillingSettings)
    assert told in str(refused.value)
    assert "sk_live_x" not in str(refused.value)
