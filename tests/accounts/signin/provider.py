"""An OpenID Connect provider over HTTP on loopback: its configuration, its keys, and ID tokens on demand."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.accounts.signin.support import AUTH
from tests.core.api.support import ApiClient

CLIENT_ID = "frontend.apps.example"
_proofs: dict[str, str] = {}


def nonce_asked() -> str:
    """As the frontend asks the platform for one; it keeps the proof."""
    said = ApiClient().get(f"{AUTH}sign-in/google").json()
    _proofs[said["nonce"]] = said["proof"]
    return str(said["nonce"])


def proof_kept(token: str) -> str:
    """The proof of the token's nonce; any text for a token with none."""
    with suppress(jwt.PyJWTError):
        return _proofs.get(str(jwt.decode(token, options={"verify_signature": False}).get("nonce")), "none")
    return "none"


@dataclass
class Provider:
    url: str = ""
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65_537, 2_048))
    asked: list[str] = field(default_factory=list)
    away: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """SOCIALACCOUNT_PROVIDERS of a platform that has this one."""
        app = {
            "provider_id": "google",
            "name": "Google",
            "client_id": CLIENT_ID,
            "secret": "",
            "settings": {"server_url": self.url},
        }
        return {"openid_connect": {"APPS": [app]}}

    def id_token(self, *, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """As the button on the frontend's page gets one; `claims` change or (`None`) leave out."""
        now = int(time.time())
        payload = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "108204268033311374519",
            "email": "ann@example.org",
            "email_verified": True,
            "name": "Ann",
            "iat": now,
            "exp": now + 3_600,
            "nonce": nonce_asked(),
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        headers = {"kid": "key-1", **(header or {})}
        return jwt.encode(
            payload, key or self.key, algorithm=str(headers.get("alg", "RS256")), headers=headers
        )

    def documents(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/keys": {"keys": [{**public, "kid": "key-1", "alg": "RS256", "use": "sig"}]},
        }


@contextmanager
def provider_running() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            document = None if provider.away else provider.documents().get(self.path)
            body = json.dumps(document).encode()
            self.send_response(200 if document else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
