"""Speaks to the identity provider (Google, or whatever OIDC issuer the settings name): its configuration and keys."""

import time
from typing import Any

import requests

# Providers publish a new key long before they sign with it, and keep the old one long after.
KEPT_SECONDS = 300.0
TIMEOUT_SECONDS = 5.0
_URLS_MAX = 16

_kept: dict[str, tuple[float, requests.Response]] = {}


class ProviderSession(requests.Session):
    """Keeps what was fetched for a few minutes, so that no transaction waits for the provider (see `warm`)."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        now = time.monotonic()
        at, found = _kept.get(str(url), (0.0, None))
        if method.upper() == "GET" and found is not None and now - at < KEPT_SECONDS:
            return found
        kwargs.setdefault("timeout", TIMEOUT_SECONDS)
        response = super().request(method, url, *args, **kwargs)
        if method.upper() == "GET" and response.ok:
            if len(_kept) >= _URLS_MAX:
                _kept.clear()
            _kept[str(url)] = (now, response)
        return response


def warm(server_url: str) -> None:
    """Have the provider's configuration and keys at hand. Raises `requests.RequestException`, `ValueError`."""
    with ProviderSession() as session:
        configuration = session.get(server_url)
        configuration.raise_for_status()
        session.get(str(configuration.json()["jwks_uri"])).raise_for_status()


def forget() -> None:
    _kept.clear()
