"""API keys and JWTs: whom a connection or a channel speaks for."""

import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import jwt

ALGORITHMS = ["HS256", "HS384", "HS512"]

Claims = dict[str, Any]


class TokenError(Exception):
    """A token that cannot be accepted: `code` as in the errors of a join, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def reason(self) -> str:
        """The reason that a refused join carries."""
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class Keys:
    """The keys of one project."""

    jwt_secret: str
    publishable_key: str
    secret_key: str

    def claims(self, token: str) -> Claims:
        """The claims of a JWT or of an API key (`sb_…`), which stands for its role. Raises TokenError."""
        for key, role in ((self.publishable_key, "anon"), (self.secret_key, "service_role")):
            if token == key:
                return {"iss": "supabase", "role": role, "exp": int(time.time()) + 10 * 365 * 24 * 3600}
        token = re.sub(r"\s", "", unquote(token))
        try:
            if jwt.get_unverified_header(token).get("alg") not in ALGORITHMS:
                raise TokenError(
                    "JwtSignerError", "Failed to generate JWT signer, check your JWT secret or JWKS configuration"
                )
            claims: Claims = jwt.decode(
                token,
                self.jwt_secret,
                algorithms=ALGORITHMS,
                options={"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_sub": False},
            )
        except jwt.InvalidSignatureError:
            raise TokenError("JwtSignatureError", "Failed to validate JWT signature") from None
        except jwt.InvalidTokenError:
            raise TokenError("MalformedJWT", "The token provided is not a valid JWT") from None
        return _checked(claims)


def _checked(claims: Claims) -> Claims:
    """Claims with a whole number as `exp`, not past; a role and an expiry are required."""
    expiry = claims.get("exp")
    if expiry is not None:
        if isinstance(expiry, bool) or not isinstance(expiry, int | float):
            raise TokenError("MalformedJWT", "The token provided is not a valid JWT")
        claims["exp"] = round(expiry)
        check_expiry(claims)
    if "exp" not in claims or "role" not in claims:
        raise TokenError("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")
    return claims


def check_expiry(claims: Claims) -> None:
    """Raises TokenError where the token has expired."""
    past = int(time.time()) - int(claims["exp"])
    if past >= 0:
        raise TokenError("InvalidJWTToken", f"Token has expired {past} seconds ago")
