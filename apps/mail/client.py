"""The only place that hands mails to somebody outside: Resend over HTTP or an SMTP server, both through Anymail or
Django's own backends. What went wrong comes back as one of three types, never with a word of the mail in it.
"""

import smtplib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import requests
from anymail.backends.resend import EmailBackend as AnymailResend
from anymail.backends.resend import ResendPayload
from anymail.exceptions import AnymailError
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as DjangoSmtp
from requests.adapters import HTTPAdapter

from apps.core.errors import Retryable, Terminal

_TIMEOUTS = (5.0, 10.0)
_SMTP_TIMEOUT = 10.0
# How many mails are on their way to a provider at once, from one process. SMTP has one connection, and no key by which
# a server would know a mail again: the fewer are in doubt, the fewer may come twice.
_AT_ONCE = {"resend": 16, "smtp": 1}
# Whoever did not answer in time has kept a worker waiting: the next look is not at once.
_AFTER_TIMEOUT_SECONDS = 20.0


class Away(Retryable):
    """The provider, as far as one mail can tell: it cannot be reached, is broken, or wants us to slow down.

    `certain`: it speaks of all mails (slow down, wrong key), whatever became of the others.
    """

    def __init__(self, message: str, *, after_seconds: float | None = None, certain: bool = False) -> None:
        super().__init__(message, after_seconds=after_seconds)
        self.certain = certain


@dataclass(frozen=True)
class Outgoing:
    """A mail as it leaves. `key` is the same at every try."""

    key: str
    to: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]


class ResendBackend(AnymailResend):  # type: ignore[misc]
    """Resend with its idempotency key: a message that is handed over twice within 24 hours is sent once."""

    def build_message_payload(self, message: EmailMultiAlternatives, defaults: Any) -> ResendPayload:
        return ResendPayload(message, defaults, self, headers={"Idempotency-Key": message.idempotency_key})  # type: ignore[attr-defined]

    def create_session(self) -> requests.Session:
        """As many connections as there may be requests at once, all kept alive."""
        session: requests.Session = super().create_session()
        session.mount("https://", HTTPAdapter(pool_maxsize=_AT_ONCE["resend"]))
        session.mount("http://", HTTPAdapter(pool_maxsize=_AT_ONCE["resend"]))
        return session


class Provider:
    """Open connections to the provider, over which up to `at_once` mails are handed over at a time."""

    def __init__(self, backend: BaseEmailBackend, threads: ThreadPoolExecutor, at_once: int) -> None:
        self.at_once = at_once
        self._backend = backend
        self._threads = threads

    def send(self, mail: Outgoing) -> "Future[str | Exception]":
        """Hand one mail over. What comes of it is the provider's id, or what went wrong as `Away`, `Retryable` or
        `Terminal` (a result, not raised: no traceback of the library, with the mail in it, hangs on to it)."""
        return self._threads.submit(self._send, mail)

    def _send(self, mail: Outgoing) -> str | Exception:
        message = EmailMultiAlternatives(
            mail.subject,
            mail.text,
            settings.MAIL_FROM,
            [mail.to],
            headers=mail.headers,
            connection=self._backend,
        )
        message.attach_alternative(mail.html, "text/html")
        message.idempotency_key = mail.key  # type: ignore[attr-defined]
        try:
            message.send()
        except Exception as error:  # noqa: BLE001 — sorted into three kinds
            return _sorted(error)
        status = getattr(message, "anymail_status", None)
        return str(getattr(status, "message_id", "") or "")


@contextmanager
def provider_open() -> Iterator[Provider]:
    """The connections for a chunk of mails. Raises `Away` when there is none to be had.

    Leaving waits for what is on its way.
    """
    backend = _backend()
    try:
        backend.open()
    except Exception as error:  # noqa: BLE001 — an SMTP server that is away, a wrong password
        failure = _sorted(error)
        backend = None
    if backend is None:
        raise failure if isinstance(failure, Away) else Away(str(failure))
    at_once = _AT_ONCE[settings.MAIL_TRANSPORT]
    try:
        with ThreadPoolExecutor(at_once, thread_name_prefix="mail") as threads:
            yield Provider(backend, threads, at_once)
    finally:
        # The mails are gone; a connection that breaks while it is closed changes nothing.
        with suppress(OSError, smtplib.SMTPException):
            backend.close()


def _backend() -> Any:
    if settings.MAIL_TRANSPORT == "resend":
        return ResendBackend(
            api_key=settings.RESEND_API_KEY, api_url=settings.RESEND_API_URL, timeout=_TIMEOUTS
        )
    return DjangoSmtp(**settings.SMTP, timeout=_SMTP_TIMEOUT)


def _sorted(error: Exception) -> Retryable | Terminal:
    if isinstance(error, AnymailError):
        return _of_http(error)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        return _of_smtp(codes[0] if codes else 550)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Away("the mail server refused our login", certain=True)
    if isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPHeloError | smtplib.SMTPServerDisconnected):
        return Away(f"the mail server: {type(error).__name__}", certain=True)
    if isinstance(error, smtplib.SMTPResponseException):
        return _of_smtp(error.smtp_code)
    if isinstance(error, OSError):  # time-outs, refused connections, TLS
        said = f"the mail server cannot be reached: {type(error).__name__}"
        return Away(said, after_seconds=_pause(error), certain=True)
    return Terminal(f"the mail could not be put together: {type(error).__name__}")


def _of_smtp(code: int) -> Retryable | Terminal:
    if code == 421:
        return Away("the mail server said 421", certain=True)
    if 400 <= code < 500:
        return Retryable(f"the mail server said {code}")
    return Terminal(f"the mail server said {code}")


def _of_http(error: AnymailError) -> Retryable | Terminal:
    response = getattr(error, "response", None)
    if response is None:
        # Whether it was taken is not known; the next try brings the same key.
        cause = error.__cause__ or error
        return Away(f"the provider cannot be reached: {type(cause).__name__}", after_seconds=_pause(cause))
    status = int(response.status_code)
    said = f"the provider said {status} {_name(response)}".strip()
    if status == 429:
        return Away(said, after_seconds=_retry_after(response), certain=True)
    if status in {401, 403}:
        return Away(said, certain=True)
    if status >= 500 or status == 408:
        return Away(said)
    if status == 409 and "concurrent" in said:
        return Retryable(said)
    return Terminal(said)


def _pause(error: BaseException) -> float | None:
    return _AFTER_TIMEOUT_SECONDS if isinstance(error, TimeoutError | requests.Timeout) else None


def _name(response: Any) -> str:
    """The machine-readable name of the provider's error. Its message may repeat the mail, and is not read."""
    try:
        name = response.json().get("name", "")
    except (ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) and name.replace("_", "").isalnum() and len(name) <= 60 else ""


def _retry_after(response: Any) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", "1")), 0.2), 600.0)
    except ValueError:
        return 1.0
