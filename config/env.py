"""The only reader of the environment. Everything else asks `django.conf.settings`.

A required value that is missing fails at start with its name; nothing falls back silently in production.
"""

import base64
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

_env = environ.Env()


def text(name: str, *, default: str | None = None) -> str:
    """A string; raises `ImproperlyConfigured` naming the variable when it is missing and has no default."""
    value = _env.str(name, default=default) if default is not None else _env.str(name)
    if default is None and not value:
        raise ImproperlyConfigured(f"Set the {name} environment variable: it is empty.")
    return str(value)


def integer(name: str, *, default: int | None = None) -> int:
    """Required when it has no default."""
    return int(_env.int(name, default=default) if default is not None else _env.int(name))


def flag(name: str, *, default: bool) -> bool:
    return bool(_env.bool(name, default=default))


def words(name: str, *, default: list[str] | None = None) -> list[str]:
    """A comma-separated list; required when it has no default."""
    return list(_env.list(name, default=default) if default is not None else _env.list(name))


def database(name: str, *, default: str | None = None) -> dict[str, Any]:
    """Django's DATABASES entry for a `postgresql://` URL."""
    return dict(_env.db_url_config(text(name, default=default)))


def keyring(name: str, *, default: str | None = None) -> dict[str, bytes]:
    """AES-256 keys by id from `kid:base64[,kid:base64]`; the first is the one that encrypts.

    Raises `ImproperlyConfigured` without ever repeating the value.
    """
    keys: dict[str, bytes] = {}
    for part in filter(None, text(name, default=default).split(",")):
        key_id, _, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if not key_id or len(key) != 32:
            raise ImproperlyConfigured(f"{name} wants key-id:base64 of exactly 32 bytes, comma-separated.")
        keys[key_id.strip()] = key
    return keys


def read_file(path: Path) -> None:
    """Take defaults from a dotenv file; what the environment already says wins."""
    if path.is_file():
        environ.Env.read_env(str(path), overwrite=False)
