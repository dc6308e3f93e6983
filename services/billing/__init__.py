"""Stripe billing: payment pages, the portal, and the webhook that makes the ledger agree with Stripe."""
