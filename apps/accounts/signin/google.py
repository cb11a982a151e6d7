"""Sign-in with Google: an ID token that the frontend got, verified by allauth against the issuer's published keys."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwt
import requests
from django.conf import settings

from apps.accounts.signin import client
from apps.accounts.signin.counts import MARKS
from apps.core.api.problems import ProblemError
from apps.core.errors import NotFound, Retryable

PROVIDER = "google"
# OIDC providers sign with these; a token that names another (`none`, a shared secret) is no token of theirs.
_ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}
# Longer than any ID token is valid.
_SPENT_SECONDS = 86_400


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


def token_given(id_token: str) -> dict[str, Any]:
    """The token as allauth wants it, with what its verification needs fetched beforehand.

    Raises `ProblemError` `token_refused` for what cannot be one, `NotFound`, `Retryable` when the issuer is away.
    """
    found = provider()
    try:
        header = jwt.get_unverified_header(id_token)
    except jwt.PyJWTError as error:
        raise ProblemError("token_refused") from error
    if header.get("alg") not in _ALGORITHMS or not isinstance(header.get("kid"), str):
        raise ProblemError("token_refused")
    try:
        client.warm(found.issuer.rstrip("/") + "/.well-known/openid-configuration")
    except (requests.RequestException, ValueError, KeyError) as error:
        raise Retryable("the identity provider does not answer") from error
    return {"client_id": found.client_id, "id_token": id_token}


def token_spend(id_token: str) -> Callable[[], None]:
    """For the transaction that uses the token: one that was seen before signs nobody in."""
    name = "id-token:" + sha256(id_token.encode()).hexdigest()

    def spend() -> None:
        if not MARKS.add(name, True, _SPENT_SECONDS):
            raise ProblemError("token_refused")

    return spend
