"""What a browser meets: web and stream as in production, over TLS and by name, and a page of another origin."""

import base64
import hashlib
import http.client
import http.server
import json
import os
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from apps.core import clock
from apps.sandbox.runtime.processes import Child, child_start_on_free_port
from tests.browser.chromium import chromium_open
from tests.support.web import database_copy

HOME = "tranche.test"
# One of ours, and one of somebody else.
APP, API, STREAM, FOREIGN = f"app.{HOME}", f"api.{HOME}", f"live.{HOME}", "elsewhere.test"
PAGE = Path(__file__).resolve().parent / "page"
CSRF_COOKIE = "__Secure-tranche_refresh_csrf"
REFRESH_COOKIE = "__Secure-tranche_refresh"

# Processes, a browser and sometimes half a dozen neighbours on two cores: patience costs nothing when all is well.
PATIENCE_MILLISECONDS = 60_000
expect.set_options(timeout=PATIENCE_MILLISECONDS)


@dataclass(frozen=True)
class Stage:
    """Origins, without a slash at the end."""

    browser: Browser
    app: str
    api: str
    stream: str
    foreign: str


class Watched:
    """A context of a browser, and everything in its console that speaks of a fault."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("requestfailed", self._failed)

    def page(self) -> Page:
        return self.context.new_page()

    def _heard(self, message: ConsoleMessage) -> None:
        # A refused request is the API's answer, and asserted by its test; Chromium repeats each in red.
        refused = "Failed to load resource: the server responded with a status of 4" in message.text
        if message.type in ("error", "warning") and not refused:
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def _failed(self, request: Request) -> None:
        # What a page leaves under way when it is left.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.method} {request.url}: {request.failure}")


@contextmanager
def stage_open(directory: Path) -> Iterator[Stage]:
    """On a copy of the tests' database, as which Django works meanwhile."""
    key, certificate, fingerprint = _certificate(directory)
    with ExitStack() as stack:
        url = stack.enter_context(database_copy())
        page = Site(key, certificate)
        stack.callback(page.stop)
        app, foreign = f"https://{APP}:{page.port}", f"https://{FOREIGN}:{page.port}"
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.browser.production_settings",
            "DATABASE_URL": url,
            "REDIS_URL": settings.REDIS_URL,
            "GRANIAN_SSL_CERTIFICATE": str(certificate),
            "GRANIAN_SSL_KEYFILE": str(key),
            "SECRET_KEY": "for-the-browser-only-0123456789abcdef0123456789abcdef0123456789",
            "ENCRYPTION_KEYS": _keyring(settings.ENCRYPTION_KEYS),
            "ACCESS_TOKEN_KEYS": _keyring(settings.ACCESS_TOKEN_KEYS),
            "ALLOWED_HOSTS": f"{API},{STREAM},127.0.0.1",
            "TRUSTED_PROXY_HOPS": "0",
            "CORS_ALLOWED_ORIGINS": app,
            "REFRESH_COOKIE_DOMAIN": HOME,
            "PASSKEY_DOMAIN": HOME,
            "MAIL_TRANSPORT": "database",
            "MAIL_FROM": "Tranche <hello@tranche.test>",
            "PUBLIC_URL": f"https://{API}",
            "WEB_WORKERS": "1",
        }
        ports = {
            role: _role_start(role, variable, directory=directory, environment=environment, stack=stack)
            for role, variable in (("web", "PORT"), ("stream", "STREAM_PORT"))
        }
        api, stream = f"https://{API}:{ports['web']}", f"https://{STREAM}:{ports['stream']}"
        page.config.update(api=api, stream=stream, csrfCookie=CSRF_COOKIE)
        browser = stack.enter_context(
            chromium_open(
                [
                    f"--host-resolver-rules=MAP *.{HOME} 127.0.0.1, MAP {FOREIGN} 127.0.0.1",
                    # Passkeys want a certificate that the browser trusts; this one, and no other.
                    f"--ignore-certificate-errors-spki-list={fingerprint}",
                ]
            )
        )
        # While Playwright's loop runs, Django has other connections than before and after (`asgiref.Local`), and keeps
        # them for the next stage: one to a database that is dropped then would fail its first test (57P01).
        stack.callback(connection.close)
        yield Stage(browser, app, api, stream, foreign)


@contextmanager
def watched(stage: Stage, **options: Any) -> Iterator[Watched]:
    """Somebody at a browser of their own; in the end nothing must have complained."""
    context = stage.browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    try:
        person = Watched(context)
        yield person
        assert not person.complaints, person.complaints
    finally:
        context.close()


class Site:
    """The folder `page` over TLS, under every name, as a frontend's host would serve it: with a policy of its own."""

    def __init__(self, key: Path, certificate: Path) -> None:
        self.config: dict[str, str] = {}
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, self.config))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Files(http.server.SimpleHTTPRequestHandler):
    def __init__(self, config: dict[str, str], *arguments: Any) -> None:
        self.config = config
        super().__init__(*arguments, directory=str(PAGE))

    def do_GET(self) -> None:
        if self.path != "/config.json":
            super().do_GET()
            return
        body = json.dumps(self.config).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        origins = " ".join([self.config["api"], self.config["stream"]])
        policy = f"default-src 'none'; script-src 'self'; img-src data:; connect-src 'self' {origins}"
        self.send_header("Content-Security-Policy", policy)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Not into the tests' output."""


def _role_start(
    role: str, variable: str, *, directory: Path, environment: dict[str, str], stack: ExitStack
) -> int:
    def make(port: int) -> Child:
        return Child(
            name=role,
            argv=[sys.executable, "-m", "config.roles", role],
            log=directory / f"{role}.log",
            environment={**environment, "SERVICE_NAME": role, variable: str(port)},
            directory=settings.BASE_DIR,
        )

    child, port = child_start_on_free_port(make, ready=lambda port, _: _answers(port), seconds=400)
    stack.callback(child.stop)
    return port


def _answers(port: int) -> bool:
    link = http.client.HTTPSConnection(
        "127.0.0.1",
        port,
        timeout=5,
        context=ssl._create_unverified_context(),  # noqa: S323
    )
    try:
        link.request("GET", "/api/v1/health")
        return link.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def _keyring(keys: Any) -> str:
    return ",".join(f"{name}:{base64.b64encode(key).decode()}" for name, key in keys.items())


def _certificate(directory: Path) -> tuple[Path, Path, str]:
    """Key file, certificate file, and the fingerprint of the public key by which Chromium is told to trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOME)])
    names = [x509.DNSName(one) for one in (APP, API, STREAM, FOREIGN)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return key_file, certificate_file, base64.b64encode(hashlib.sha256(public).digest()).decode()
