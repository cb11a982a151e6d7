"""Production. A missing required variable stops the process at start and names itself."""

from config import env, reports
from config.settings import common
from config.settings.base import *  # noqa: F403
from config.settings.base import VERSION

DEBUG = False
SECRET_KEY = env.text("SECRET_KEY")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
# No default: one too few and all people share one address and its limits, one too many and anybody may invent theirs.
TRUSTED_PROXY_HOPS = env.integer("TRUSTED_PROXY_HOPS")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", default=[])
CORS_ALLOWED_ORIGINS = env.words("CORS_ALLOWED_ORIGINS", default=[])

DATABASES = common.databases()
REDIS_URL = env.text("REDIS_URL")
CACHES = common.caches(REDIS_URL)

ENCRYPTION_KEYS = env.keyring("ENCRYPTION_KEYS")
ACCESS_TOKEN_KEYS = env.keyring("ACCESS_TOKEN_KEYS")
# Only the signing worker is given these; every other role runs without and cannot sign.
SIGNER_KEYS = env.keyring("SIGNER_KEYS", default="")
SIGNER_DEPOSIT_XPRV = env.text("SIGNER_DEPOSIT_XPRV", default="")
# Without it nobody is given a deposit address; everything else works.
DEPOSIT_XPUB = env.text("DEPOSIT_XPUB", default="")

MAIL_TRANSPORT = common.mail_transport()
MAIL_FROM = env.text("MAIL_FROM")
# Links in mails begin with it.
PUBLIC_URL = env.text("PUBLIC_URL").rstrip("/")

LOGGING = common.logging(level=env.text("LOG_LEVEL", default="INFO"), json=True)

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", default=True)
# The platform's health check speaks plain HTTP inside the private network.
SECURE_REDIRECT_EXEMPT = [r"^api/v1/health"]
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
REFRESH_COOKIE_SECURE = True
# Browsers take a cookie of such a name over HTTPS alone: a neighbour on plain HTTP cannot plant one.
REFRESH_COOKIE_NAME = "__Secure-tranche_refresh"
REFRESH_CSRF_COOKIE_NAME = "__Secure-tranche_refresh_csrf"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

SENTRY_DSN = env.text("SENTRY_DSN", default="")
reports.start(
    dsn=SENTRY_DSN, environment=env.text("SENTRY_ENVIRONMENT", default="production"), release=VERSION
)
