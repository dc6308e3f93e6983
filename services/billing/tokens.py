"""Verifies the tokens that Supabase Auth gives to users."""

import asyncio
from typing import Any

import jwt

from services.billing.settings import BillingSettings

LEEWAY = 10  # seconds between the clocks
SIGNATURES = ["ES256", "RS256"]


class TokenError(Exception):
    """The token is no user's of this project, or no more; the message is for the caller."""


class TokensUnavailableError(Exception):
    """The project's keys could not be read."""


class Tokens:
    """Tokens signed with the project's shared secret, or with a key that the project publishes."""

    def __init__(self, settings: BillingSettings) -> None:
        self._issuer = f"{settings.supabase_url}/auth/v1"
        self._secret = settings.jwt_secret
        self._reading = asyncio.Lock()
        self._keys = jwt.PyJWKClient(f"{self._issuer}/.well-known/jwks.json", timeout=5)

    async def user_id(self, authorization: str | None) -> str:
        """The id of the user who sends an Authorization header. Raises TokenError and TokensUnavailableError."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenError("Sign in first")
        try:
            claims = await self._claims(token)
        except jwt.PyJWKClientConnectionError as error:
            raise TokensUnavailableError(str(error)) from error
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenError("The session is not valid; sign in again") from error
        # Another project's issuer; local servers name none.
        if claims.get("iss", self._issuer) != self._issuer or claims.get("role") != "authenticated":
            raise TokenError("The session is not valid; sign in again")
        return str(claims["sub"])

    async def _claims(self, token: str) -> dict[str, Any]:
        algorithm = jwt.get_unverified_header(token).get("alg")
        if algorithm == "HS256" and self._secret is not None:
            key: Any = self._secret.get_secret_value()
        elif algorithm in SIGNATURES:
            # One at a time: forged tokens must not take all the threads, which look up addresses too.
            async with self._reading:
                key = (await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)).key
        else:
            raise TokenError("The session is not valid; sign in again")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience="authenticated",
            leeway=LEEWAY,
            options={"require": ["exp", "sub", "aud"]},
        )
        return claims
