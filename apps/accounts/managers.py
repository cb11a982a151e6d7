"""How people are made: an email, lower-cased, and a password or none."""

from typing import TYPE_CHECKING, Any

from django.contrib.auth.base_user import BaseUserManager

if TYPE_CHECKING:
    from apps.accounts.models import User


def email_normalise(email: str) -> str:
    """The form in which an email is stored and compared: trimmed and lower-case throughout."""
    return email.strip().lower()


class UserManager(BaseUserManager["User"]):
    """Django's own commands (`createsuperuser`) and the authentication backend come through here."""

    use_in_migrations = False

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=email_normalise(username or ""))

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """A person; without a password they cannot log in by password."""
        if not email:
            raise ValueError("a user needs an email")
        user = self.model(email=email_normalise(email), **fields)
        user.set_password(password)
        user.full_clean()
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})
