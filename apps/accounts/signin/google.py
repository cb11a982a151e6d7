"""Sign-in with Google: an ID token that the frontend got, verified by allauth against the issuer's published keys.

allauth checks signature, issuer, audience and expiry. Here is what OpenID Connect Core 3.1.3.7 and 15.5.2 ask beside
that: a nonce that only whoever began the sign-in can show for, and nobody else in the audience.
docs/decisions/0025-a-nonce-for-google.md
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

import jwt
import requests
from django.conf import settings
from django.core.signing import BadSignature, TimestampSigner
from django.utils.crypto import constant_time_compare

from apps.accounts.signin import client
from apps.accounts.signin.counts import MARKS
from apps.core.api.problems import ProblemError
from apps.core.errors import NotFound, Retryable

PROVIDER = "google"
# OIDC providers sign with these; a token that names another (`none`, a shared secret) is no token of theirs.
_ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}
# From asking for the button to showing its token: a page may stand open for a while.
NONCE_SECONDS = 3_600
_SIGNER = TimestampSigner(salt="apps.accounts.signin.google")


@dataclass(frozen=True)
class Provider:
    client_id: str
    issuer: str


def provider() -> Provider:
    """Raises `NotFound` where the platform has none."""
    for app in settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]:
        if app["provider_id"] == PROVIDER:
            return Provider(app["client_id"], app["settings"]["server_url"])
    raise NotFound


def proof_make() -> str:
    """What the frontend keeps for itself while it asks the provider for a token with `nonce_of` this. Kept nowhere."""
    return _SIGNER.sign(token_urlsafe(16))


def nonce_of(proof: str) -> str:
    """SHA-256 in base64url: whoever sees it, or a token with it, does not have the proof."""
    return urlsafe_b64encode(sha256(proof.encode()).digest()).decode().rstrip("=")


def token_given(id_token: str, proof: str) -> dict[str, Any]:
    """The token as allauth wants it, with what its verification needs fetched beforehand.

    Raises `ProblemError` `token_refused` for what cannot be one or is not for `proof`, `NotFound`, `Retryable` when
    the issuer is away.
    """
    found = provider()
    try:
        header = jwt.get_unverified_header(id_token)
        # Not verified yet: allauth does that to the same text, and whatever is refused here stays refused.
        claims = jwt.decode(id_token, options={"verify_signature": False})
        _SIGNER.unsign(proof, max_age=NONCE_SECONDS)
    except (jwt.PyJWTError, BadSignature) as error:
        raise ProblemError("token_refused") from error
    if header.get("alg") not in _ALGORITHMS or not isinstance(header.get("kid"), str):
        raise ProblemError("token_refused")
    if not _is_ours(claims, found.client_id, nonce_of(proof)):
        raise ProblemError("token_refused")
    try:
        client.warm(found.issuer.rstrip("/") + "/.well-known/openid-configuration")
    except (requests.RequestException, ValueError, KeyError) as error:
        raise Retryable("the identity provider does not answer") from error
    return {"client_id": found.client_id, "id_token": id_token}


def _is_ours(claims: dict[str, Any], client_id: str, nonce: str) -> bool:
    """Whether these are claims for nobody but us, in answer to what we asked, that end some day."""
    return (
        claims.get("aud") in (client_id, [client_id])
        and constant_time_compare(str(claims.get("nonce", "")), nonce)
        and {"exp", "iat", "sub"} <= claims.keys()
        # Text would be true, whatever it says.
        and isinstance(claims.get("email_verified", False), bool)
    )


def token_spend(proof: str) -> Callable[[], None]:
    """For the transaction that uses a token: its nonce is good once, and the token with it."""
    name = "google-nonce:" + nonce_of(proof)

    def spend() -> None:
        if not MARKS.add(name, True, NONCE_SECONDS):
            raise ProblemError("token_refused")

    return spend
