"""Signing up and in: django-allauth (headless, mfa, socialaccount), django-axes, sessions, passwords.

docs/decisions/ tells why; what a frontend sees of it stands in docs/api.md.
"""

from datetime import timedelta
from typing import Any

from config import env

PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "apps.accounts.signin.passwords.BreachedPasswordValidator"},
]
AUTHENTICATION_BACKENDS = [
    # First: whoever is locked out is turned away before any password is hashed.
    "axes.backends.AxesStandaloneBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
SESSION_ENGINE = "apps.accounts.signin.sessions"

# The API's own views hand requests to allauth's; its routes are not mounted.
HEADLESS_ONLY = True
HEADLESS_CLIENTS = ("app",)
HEADLESS_TOKEN_STRATEGY = "apps.accounts.tokens.strategy.TokenStrategy"  # noqa: S105
HEADLESS_ADAPTER = "apps.accounts.signin.adapter.HeadlessAdapter"
# allauth wants them for mails that ours replace.
HEADLESS_FRONTEND_URLS = {"account_signup": "/", "account_reset_password": "/"}

ACCOUNT_ADAPTER = "apps.accounts.signin.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_TIMEOUT = 600
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_MAX_ATTEMPTS = 5
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = 5
ACCOUNT_CHANGE_EMAIL = True
# A reset needs no password, so that its code is longer than the six digits of a verification: 20^8.
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_PASSWORD_RESET_BY_CODE_TIMEOUT = 600
ACCOUNT_PASSWORD_RESET_BY_CODE_MAX_ATTEMPTS = 5
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_LOGIN_TIMEOUT = 900
# The security notices of allauth go out as our mails.
ACCOUNT_EMAIL_NOTIFICATIONS = True
# Per email or person, kept in PostgreSQL (apps.accounts.signin.counts). Per address is the API's own limit.
ACCOUNT_RATE_LIMITS: dict[str, str | None] = {
    # The pause before another code to the same address, and how many an hour.
    "confirm_email": "1/30s/key,6/h/key",
    "reset_password": "1/30s/key,6/h/key",
    # Codes of a second factor.
    "login_failed": "5/5m/key,20/d/key",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
    "reauthenticate": "10/m/user",
    "reset_password_from_key": None,
    "signup": None,
    "login": None,
}

MFA_ADAPTER = "apps.accounts.signin.adapter.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Tranche"
# One step either side: clocks of phones are off. A used code, and any before it, is refused all the same.
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_RATE_LIMITS: dict[str, str | None] = {"webauthn_login": None}
# The domain that passkeys belong to: the frontend's, or a parent of it. Empty: the host that is asked.
PASSKEY_DOMAIN = env.text("PASSKEY_DOMAIN", default="")

SOCIALACCOUNT_ADAPTER = "apps.accounts.signin.adapter.SocialAdapter"
# The client id that the frontend shows Google; empty: no sign-in with Google.
GOOGLE_CLIENT_ID = env.text("GOOGLE_CLIENT_ID", default="")
GOOGLE_ISSUER = env.text("GOOGLE_ISSUER", default="https://accounts.google.com")
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {
    "openid_connect": {
        "APPS": [
            {
                "provider_id": "google",
                "name": "Google",
                "client_id": GOOGLE_CLIENT_ID,
                "secret": "",
                "settings": {"server_url": GOOGLE_ISSUER},
            }
        ]
        if GOOGLE_CLIENT_ID
        else []
    }
}

# Five wrong passwords of one email from one address, then nothing from there for a quarter of an hour.
AXES_HANDLER = "axes.handlers.database.AxesDatabaseHandler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
# A lock ends when it ends: knocking on it does not lengthen it.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_USERNAME_CALLABLE = "apps.accounts.signin.lockout.username"
AXES_CLIENT_IP_CALLABLE = "apps.accounts.signin.lockout.address"
AXES_LOCKOUT_CALLABLE = "apps.accounts.signin.lockout.answer"
AXES_CLIENT_STR_CALLABLE = "apps.accounts.signin.lockout.client"
