"""Every credential of the platform, each a canary, and what people send that holds one."""

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

# Headers and body members that carry a credential of a person, present and coming.
BODY = (
    "password",
    "new_password",
    "refresh_token",
    "access_token",
    "code",
    "recovery_code",
    "key",
    "token",
    "secret",
)


def made(name: str) -> str:
    """Nothing else looks like it."""
    return f"canary{name}{secrets.token_hex(12)}"


@dataclass
class Cage:
    """Every credential of the platform, by name; `forms` are the shapes in which one may get out."""

    secret_key: str = field(default_factory=lambda: made("secretkey") + secrets.token_hex(20))
    database: str = field(default_factory=lambda: made("database"))
    redis: str = field(default_factory=lambda: made("redis"))
    sentry: str = field(default_factory=lambda: secrets.token_hex(16))
    metrics: str = field(default_factory=lambda: made("metrics"))
    flower: str = field(default_factory=lambda: made("flower"))
    endpoint: str = field(default_factory=lambda: made("endpoint"))
    password: str = field(default_factory=lambda: made("password"))
    header: str = field(default_factory=lambda: made("header"))
    cookie: str = field(default_factory=lambda: made("cookie"))
    body: str = field(default_factory=lambda: made("body"))
    bearer: str = field(default_factory=lambda: made("bearer"))
    encryption: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    access_tokens: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    webhook: str = field(default_factory=lambda: made("webhook"))
    resend: str = field(default_factory=lambda: made("resend"))
    signer: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    wallet: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    xprv: str = ""
    api_key: str = ""

    def forms(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in vars(self).items():
            if isinstance(value, bytes):
                found[name] = [base64.b64encode(value).decode(), value.hex(), repr(value)[2:-1]]
            else:
                coded = base64.b64encode(value.encode()).decode().rstrip("=")
                found[name] = [value, coded, quote(value, safe="")]
        # The part of an API key that may be shown is no secret.
        found["api_key"].append(self.api_key.rpartition("_")[2])
        return found


def requests_made(cage: Cage) -> Iterator[tuple[str, str, dict[str, str], str]]:
    """What people send: credentials everywhere that one may stand, right and wrong."""
    headers = {
        "Cookie": f"sessionid={cage.cookie}; csrftoken={cage.cookie}; refresh={cage.cookie}",
        "X-CSRFToken": cage.header,
        "X-Session-Token": cage.header,
        "X-Api-Key": cage.header,
        "Content-Type": "application/json",
    }
    body = json.dumps(
        {**dict.fromkeys(BODY, cage.body), "nested": {"password": cage.body, "code": cage.body}}
    )
    for bearer in (
        cage.api_key,
        cage.api_key[:-1] + "0",
        cage.bearer,
        f"eyJhbGciOiJIUzI1NiJ9.{cage.bearer}.x",
    ):
        sent = {**headers, "Authorization": f"Bearer {bearer}"}
        for path in (
            "me",
            "probe/crash",
            "probe/raises/database",
            "probe/raises/retryable",
            "auth/sign-in",
            "api-keys",
        ):
            yield "POST", f"/api/v1/{path}", sent, body
            yield "GET", f"/api/v1/{path}", sent, ""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": headers["Cookie"]}
    for password in (cage.password, cage.body):
        yield "POST", "/admin/login/", form, urlencode({"username": "root@example.org", "password": password})
    yield "GET", "/metrics", {"Authorization": f"Bearer {cage.metrics}", "X-Forwarded-For": "8.8.8.8"}, ""
    yield "GET", "/api/v1/health/ready", {}, ""
