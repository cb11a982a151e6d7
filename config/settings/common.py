"""Settings that are built from values the environment gives: databases, broker, keys, logs.

Each environment's module sets its defaults first and calls these builders, so that a value that production
requires can never be filled by a development default.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from config import env


def databases(*, default: str | None = None) -> dict[str, dict[str, Any]]:
    """One PostgreSQL. Server-side timeouts bound every statement that no worker meant to be long.

    Commits are synchronous whatever the server's own configuration says. What is broadcast after a commit (the signed
    bytes of a transaction) must still be known after a crash: forgotten, it would be signed anew and bought twice.
    """
    config = env.database("DATABASE_URL", default=default)
    config["ENGINE"] = "apps.core.postgresql"
    config["CONN_MAX_AGE"] = 60
    config["CONN_HEALTH_CHECKS"] = True
    config["OPTIONS"] = {
        **config.get("OPTIONS", {}),
        "connect_timeout": 5,
        "application_name": env.text("SERVICE_NAME", default="tranche"),
        "options": (
            "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s"
            " -c synchronous_commit=on"
        ),
    }
    return {"default": config}


def caches(redis_url: str) -> dict[str, dict[str, Any]]:
    return {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url}}


MAIL_TRANSPORTS = ("resend", "smtp", "database")


def mail_transport(*, default: str | None = None) -> str:
    """How mails leave; refuses what is unknown, or lacks what it needs, at start."""
    name = env.text("MAIL_TRANSPORT", default=default)
    if name not in MAIL_TRANSPORTS:
        raise ImproperlyConfigured(f"MAIL_TRANSPORT is one of: {', '.join(MAIL_TRANSPORTS)}.")
    needed = {"resend": "RESEND_API_KEY", "smtp": "SMTP_URL"}.get(name)
    if needed:
        env.text(needed)
    return name


def mail_kept_days() -> int:
    """Below a month links to unsubscribe would end while people still read the mail."""
    days = env.integer("MAIL_KEPT_DAYS", default=90)
    if days < 30:
        raise ImproperlyConfigured("MAIL_KEPT_DAYS is at least 30.")
    return days


def smtp(url: str) -> dict[str, Any]:
    """Arguments of Django's SMTP backend from `smtp://`, `smtp+tls://` (STARTTLS) or `smtps://user:password@host:port`.

    Never repeats the URL, which holds a password.
    """
    if not url:
        return {}
    parts = urlsplit(url)
    schemes = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
    if parts.scheme not in schemes or not parts.hostname:
        raise ImproperlyConfigured("SMTP_URL wants smtp, smtp+tls or smtps://user:password@host:port.")
    return {
        "host": parts.hostname,
        "port": parts.port or schemes[parts.scheme],
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "use_tls": parts.scheme == "smtp+tls",
        "use_ssl": parts.scheme == "smtps",
    }


def _request_leave_out(_logger: Any, _method: str, event: Any) -> Any:
    """Django hands its loggers the request itself, which is written with its query string; the message has the path."""
    if not isinstance(event.get("request"), str):
        event.pop("request", None)
    return event


def logging(*, level: str, json: bool) -> dict[str, Any]:
    """JSON lines (or a console form for people), request and task ids bound by django-structlog."""
    import structlog

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _request_leave_out,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # Tracebacks without local variables: those hold keys, tokens and people's data.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    renderer: list[Any] = (
        [tracebacks, structlog.processors.JSONRenderer()]
        if json
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
                "foreign_pre_chain": shared,
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django.server": {"handlers": [], "propagate": True},
            "django_structlog": {"level": level},
            # At DEBUG these repeat the whole context of a template, and every line of an SMTP or HTTP conversation.
            "django.template": {"level": "INFO"},
            "urllib3": {"level": "INFO"},
            # Two lines per try to sign in, below that.
            "axes": {"level": "WARNING"},
            # Which passkey was shown, below that.
            "fido2": {"level": "WARNING"},
            # A line per tick would bury everything else.
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
        },
    }
