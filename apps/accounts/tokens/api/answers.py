"""How a pair of tokens goes out: in the body, or the refresh token in a cookie that no script can read."""

import hmac
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.response import Response

from apps.accounts.tokens.domain import TokenPair, csrf_token
from apps.accounts.tokens.models import Transport
from apps.core.api.problems import ProblemError

CSRF_HEADER = "X-CSRF-Token"


def tokens_answer(pair: TokenPair, *, extra: Mapping[str, Any] | None = None, status: int = 200) -> Response:
    """What a sign-in and a refresh answer: `TokensSerializer`'s members, after those of `extra`."""
    by_cookie = pair.transport == Transport.COOKIE
    csrf = csrf_token(pair.refresh_token, key=settings.SECRET_KEY.encode()) if by_cookie else None
    body = {
        **(extra or {}),
        "access_token": pair.access_token,
        "token_type": "Bearer",
        "expires_in": pair.expires_in,
        "refresh_token": None if by_cookie else pair.refresh_token,
        "refresh_expires_in": pair.refresh_expires_in,
        "csrf_token": csrf,
        "session_id": str(pair.session_id),
    }
    response = Response(body, status=status, headers={"Cache-Control": "no-store"})
    if csrf is not None:
        shared: dict[str, Any] = {
            "max_age": pair.refresh_expires_in,
            "domain": settings.REFRESH_COOKIE_DOMAIN or None,
            "secure": settings.REFRESH_COOKIE_SECURE,
            "samesite": settings.REFRESH_COOKIE_SAMESITE,
        }
        path = settings.REFRESH_COOKIE_PATH
        response.set_cookie(
            settings.REFRESH_COOKIE_NAME, pair.refresh_token, httponly=True, path=path, **shared
        )
        # Read by the page's script after a reload, and sent back as a header; by itself it opens nothing.
        response.set_cookie(settings.REFRESH_CSRF_COOKIE_NAME, csrf, httponly=False, path="/", **shared)
    return response


def cookies_clear(response: Response) -> Response:
    """Take the cookies back. What makes the token worthless is the session's end, not this."""
    shared: dict[str, Any] = {
        "domain": settings.REFRESH_COOKIE_DOMAIN or None,
        "samesite": settings.REFRESH_COOKIE_SAMESITE,
    }
    response.delete_cookie(settings.REFRESH_COOKIE_NAME, path=settings.REFRESH_COOKIE_PATH, **shared)
    response.delete_cookie(settings.REFRESH_CSRF_COOKIE_NAME, path="/", **shared)
    return response


def refresh_cookie_read(request: HttpRequest) -> str | None:
    """The refresh token in the cookie, if there is one; raises `ProblemError` `csrf_failed`.

    The browser adds the cookie to whatever a foreign page makes it send; the header only our own page can add.
    """
    text = request.COOKIES.get(settings.REFRESH_COOKIE_NAME)
    if text is None:
        return None
    expected = csrf_token(text, key=settings.SECRET_KEY.encode())
    if not hmac.compare_digest(expected.encode(), request.headers.get(CSRF_HEADER, "").encode()):
        raise ProblemError("csrf_failed")
    return text
