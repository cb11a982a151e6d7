"""Tests: local settings on services that the pytest plugin started (or that the environment names)."""

from config.settings.local import *  # noqa: F403
from config.settings.local import API_LIMITS

# Tests ask as fast as they can; those of the limits set their own.
API_LIMITS = {**API_LIMITS, "api": "100000/second", "sign_in": "100000/second"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
# Argon2id as in production, with a hundredth of its work: tests hash thousands of times.
PASSWORD_HASHERS = ["tests.support.hashers.QuickArgon2Hasher"]
