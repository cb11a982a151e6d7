"""Tests: local settings on services that the pytest plugin started (or that the environment names)."""

from config.settings.local import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
