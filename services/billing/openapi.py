"""The service's OpenAPI document."""

from typing import Any

from pydantic import BaseModel

from services.billing.checkout import CheckoutRequest, PortalRequest

ERROR = {
    "type": "object",
    "required": ["code", "message", "details", "hint"],
    "properties": {
        "code": {"type": ["string", "null"]},
        "message": {"type": ["string", "null"]},
        "details": {},
        "hint": {"type": ["string", "null"]},
    },
}
MEANINGS = {
    400: "The request is wrong.",
    401: "The session is missing, expired or of another project.",
    403: "The account is deactivated.",
    404: "This is not for sale, or the account is gone.",
    409: "The account has a subscription, or the same is under way.",
    413: "The body is too large.",
    429: "Too many requests of this user.",
    500: "The event could not be applied; its error is in stripe_events.",
    503: "The database or Stripe does not answer.",
}


def _answers(model: dict[str, Any], *statuses: int) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"200": {"description": "Done.", "content": {"application/json": {"schema": model}}}} | {
        str(status): {"description": MEANINGS[status], "content": error} for status in statuses
    }


def _page(summary: str, model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    url = {"type": "object", "required": ["url"], "properties": {"url": {"type": "string", "format": "uri"}}}
    return {
        "post": {
            "summary": summary,
            "security": [{"user": []}],
            "requestBody": {
                "required": required,
                "content": {"application/json": {"schema": model.model_json_schema()}},
            },
            "responses": _answers(url, 400, 401, 403, 404, 409, 413, 429, 503),
        }
    }


def document() -> dict[str, Any]:
    """The document, as served at /openapi.json."""
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "DTF Editor billing", "version": "1"},
        "components": {
            "securitySchemes": {"user": {"type": "http", "scheme": "bearer", "bearerFormat": "Supabase Auth"}},
            "schemas": {"Error": ERROR},
        },
        "paths": {
            "/checkout": _page("A payment page for a plan or a package", CheckoutRequest, required=True),
            "/portal": _page("The customer's portal", PortalRequest, required=False),
            "/webhooks/stripe": {
                "post": {
                    "summary": "An event of Stripe",
                    "parameters": [
                        {"name": "Stripe-Signature", "in": "header", "required": True, "schema": {"type": "string"}}
                    ],
                    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                    "responses": _answers(status, 400, 413, 500, 503),
                }
            },
            "/healthz": {"get": {"summary": "Whether the database answers", "responses": _answers(status, 503)}},
        },
    }
