"""What the tokens are. Pure: keys and instants come in as arguments, no database here."""

import base64
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import jwt
import orjson
from jwt.algorithms import HMACAlgorithm

ALGORITHM = "HS256"
# Of the header (RFC 9068): what else may be signed with these keys is no access token.
TYPE = "at+jwt"
ACCESS_LIFETIME = timedelta(minutes=15)
# A session that nobody refreshes ends after this long, and every session after the second.
REFRESH_LIFETIME = timedelta(days=30)
SESSION_LIFETIME = timedelta(days=90)
# How long a step-up counts.
STEP_UP_LIFETIME = timedelta(minutes=5)
# How long ended sessions are kept: they are how a device is known again.
ENDED_KEPT = timedelta(days=90)
DEVICE_LENGTH = 200

_REFRESH_FORM = re.compile(r"trr_[A-Za-z0-9_-]{43}", re.ASCII)
_VERSIONS = re.compile(r"[\d._]+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
# What user agents have in them, and what people call that; the first that is there, since most claim to be others, too.
_BROWSERS = {
    "Edg": "Edge", "OPR/": "Opera", "SamsungBrowser": "Samsung Internet", "Firefox": "Firefox", "FxiOS": "Firefox",
    "CriOS": "Chrome", "Chrome": "Chrome", "Safari": "Safari",
}  # fmt: skip
_SYSTEMS = {
    "iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "CrOS": "ChromeOS",
    "Macintosh": "Mac", "Linux": "Linux",
}  # fmt: skip
_PROGRAM = re.compile(r"[A-Za-z][A-Za-z-]{1,23}(?=/|$)", re.ASCII)
UNKNOWN_DEVICE = "Unknown device"
_CLAIMS = {"iss", "aud", "sub", "sid", "iat", "exp", "auth_time", "amr"}


@cache
def _prepared(key: bytes) -> bytes:
    return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(key)


class _Hmac(HMACAlgorithm):
    """Asks once whether a key is somebody's public key or certificate, which is no secret; not on every request."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return _prepared(key.encode() if isinstance(key, str) else key)


_JWS = jwt.PyJWS(algorithms=[])
_JWS.register_algorithm(ALGORITHM, _Hmac(HMACAlgorithm.SHA256))


@dataclass(frozen=True)
class AccessToken:
    """`request.auth` of a request that came with an access token. As the session says now, not as the token said.

    But for `expires_at`, the token's own end.
    """

    session_id: UUID
    expires_at: datetime
    factors: tuple[str, ...]
    authenticated_at: datetime
    transport: str
    django_key: str = field(repr=False)


@dataclass(frozen=True)
class Claims:
    """What of an access token the check needs."""

    session_id: UUID
    user_id: UUID
    expires_at: datetime


@dataclass(frozen=True)
class TokenPair:
    """What a sign-in or a refresh gives out: the only time that either token is seen. `expires_in` is in seconds."""

    session_id: UUID
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    transport: str
    expires_in: int
    refresh_expires_in: int

    def as_meta(self) -> dict[str, Any]:
        """In JSON's types, for an answer of django-allauth's; see `from_meta`."""
        return {**asdict(self), "session_id": str(self.session_id)}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "TokenPair":
        """The pair that `as_meta` wrote among other things. Raises `KeyError`."""
        values = {one.name: meta[one.name] for one in fields(cls)}
        return cls(**{**values, "session_id": UUID(values["session_id"])})


@dataclass(frozen=True)
class Signing:
    """Keys by id (the first signs, all verify), and whom tokens are from and for."""

    keys: Mapping[str, bytes] = field(repr=False)
    issuer: str
    audience: str


def access_token_make(
    *,
    signing: Signing,
    user_id: UUID,
    session_id: UUID,
    factors: Iterable[str],
    authenticated_at: datetime,
    now: datetime,
) -> str:
    """A JWT of the form of RFC 9068, good for `ACCESS_LIFETIME`."""
    key_id, key = next(iter(signing.keys.items()))
    issued = int(now.timestamp())
    payload = {
        "iss": signing.issuer,
        "aud": signing.audience,
        "sub": str(user_id),
        "sid": str(session_id),
        "iat": issued,
        "exp": issued + int(ACCESS_LIFETIME.total_seconds()),
        "auth_time": int(authenticated_at.timestamp()),
        "amr": list(factors),
    }
    return jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": TYPE})


def access_token_read(text: str, *, signing: Signing, now: datetime) -> Claims | None:
    """`None` for whatever is not, whole and now, an access token of ours; the reasons are not told apart.

    PyJWT checks form, algorithm and signature. The claims are compared here: their form is ours, the clock is
    `core.clock`'s, and PyJWT's own comparing takes three times as long, on every request.
    """
    try:
        key = signing.keys[_key_id(text)]
        signed = _JWS.decode_complete(text, key, algorithms=[ALGORITHM])
        claims = orjson.loads(signed["payload"])
        ours = (
            signed["header"]["typ"] == TYPE
            and claims.keys() >= _CLAIMS
            and claims["iss"] == signing.issuer
            and claims["aud"] == signing.audience
            and type(claims["exp"]) is int
            and claims["exp"] > now.timestamp()
        )
        if not ours:
            return None
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        return Claims(UUID(claims["sid"]), UUID(claims["sub"]), expires_at)
    # Whatever somebody sent: no base64, no JSON, no object, another key, another signature, no UUID.
    except (
        jwt.PyJWTError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        RecursionError,
        OverflowError,
        OSError,
    ):
        return None


def _key_id(text: str) -> str:
    header = orjson.loads(base64.urlsafe_b64decode(text.partition(".")[0] + "=="))
    return str(header["kid"])


def access_token_like(text: str) -> bool:
    """Whether it has a JWT's form: what tells it from an API key."""
    return text.count(".") == 2


def refresh_token_make() -> str:
    """`trr_` and 256 random bits."""
    return f"trr_{secrets.token_urlsafe(32)}"


def refresh_token_hash(text: str) -> str | None:
    """What is stored of it; `None` for anything that is not exactly of the form."""
    return sha256(text.encode()).hexdigest() if _REFRESH_FORM.fullmatch(text) else None


def csrf_token(refresh_token: str, *, key: bytes) -> str:
    """The word that a browser must send beside its refresh cookie. It is bound to the cookie by our key.

    A foreign page can neither read it nor, having planted a cookie of its own from a neighbouring host, make one up.
    """
    return hmac.digest(key, b"tranche.refresh.csrf\0" + refresh_token.encode(), sha256).hex()


def password_stamp(password: str) -> str:
    """Of the stored (hashed) password: a session whose stamp is another one was opened before it changed."""
    return sha256(b"tranche.session\0" + password.encode()).hexdigest()


def device_name(user_agent: str) -> str:
    """The user agent as it may be stored and shown: printable ASCII, shortened."""
    return " ".join(_UNPRINTABLE.sub(" ", user_agent).split())[:DEVICE_LENGTH]


def device_label(user_agent: str) -> str:
    """What a person is told of a device: `Firefox on Linux`, `curl`. At most 28 characters.

    Made of words of ours. Of a program that is no browser its name, which is letters: whoever signs in says anything
    here, and must not get a sentence or a link into somebody's mail.
    """
    browser = next((name for mark, name in _BROWSERS.items() if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS.items() if mark in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    program = _PROGRAM.match(user_agent)
    if program is None or program[0] == "Mozilla":
        return browser or system or UNKNOWN_DEVICE
    return program[0]


def device_hash(user_agent: str) -> str:
    """The same after an update of the browser: version numbers do not count."""
    return sha256(_VERSIONS.sub("", user_agent).encode()).hexdigest()


def factors_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """django-allauth's authentication records as names, each once, in order: `password`, `totp`, `google` …"""
    names = [
        str(record.get({"mfa": "type", "socialaccount": "provider"}.get(str(record.get("method")), "method")))
        for record in records
    ]
    return list(dict.fromkeys(name[:32] for name in names))
