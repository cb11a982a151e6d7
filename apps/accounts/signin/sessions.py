"""Django's sessions in PostgreSQL, encrypted: a sign-in under way holds its code, an enrolment its TOTP secret."""

import base64
from binascii import Error as NotBase64
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions

from apps.core.crypto import DecryptionError, decrypt, encrypt

_PLACE = "django_session.session_data"


class SessionStore(DatabaseSessions):
    """A session that does not decrypt is an empty one, as with Django's own store: its holder signs in again."""

    def encode(self, session_dict: dict[str, Any]) -> str:
        plain: bytes = self.serializer().dumps(session_dict)
        return base64.b64encode(encrypt(plain, keys=settings.ENCRYPTION_KEYS, place=_PLACE)).decode()

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        try:
            sealed = base64.b64decode(session_data, validate=True)
            plain = decrypt(sealed, keys=settings.ENCRYPTION_KEYS, place=_PLACE)
        except (NotBase64, ValueError, DecryptionError):
            return {}
        found: dict[str, Any] = self.serializer().loads(plain)
        return found

    @classmethod
    def get_model_class(cls) -> Any:
        from django.contrib.sessions.models import Session

        return Session
