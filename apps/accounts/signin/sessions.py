"""Django's sessions in PostgreSQL, of use to nobody who reads the table.

What they hold is encrypted: a sign-in under way holds its code, an enrolment its TOTP secret. What opens them (the
`X-Session-Token` of an unfinished sign-in, the admin's cookie) is stored as a digest.
"""

import base64
from binascii import Error as NotBase64
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.utils import timezone

from apps.core.crypto import DecryptionError, decrypt, encrypt

_PLACE = "django_session.session_data"
# The column's width. 160 bits of a key that is random: no salt, no slow hash.
_LENGTH = 40


def stored_key(session_key: str) -> str:
    """What of a session's key stands in the database: the row's own key."""
    return sha256(session_key.encode()).hexdigest()[:_LENGTH]


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

    # Django's store looks up and saves by the key itself.

    def load(self) -> dict[str, Any]:
        rows = self.model.objects.filter(expire_date__gt=timezone.now())
        row = rows.filter(session_key=stored_key(self.session_key)).first() if self.session_key else None
        if row is None:
            self._session_key = None
            return {}
        return self.decode(row.session_data)

    def exists(self, session_key: str) -> bool:
        return super().exists(stored_key(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row = super().create_model_instance(data)
        row.session_key = stored_key(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key:
            super().delete(stored_key(key))

    # The same from asynchronous code, which Django's store writes a second time.
    acreate, aload, asave = SessionBase.acreate, SessionBase.aload, SessionBase.asave
    aexists, adelete = SessionBase.aexists, SessionBase.adelete
