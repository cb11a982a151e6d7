"""Development. Every value has a default; the running sandbox fills in where its services are."""

from config import env
from config.settings import common
from config.settings.base import *  # noqa: F403
from config.settings.base import BASE_DIR, INSTALLED_APPS

SANDBOX_DIR = BASE_DIR / env.text("SANDBOX_DIR", default="var/sandbox")
env.read_file(SANDBOX_DIR / "sandbox.env")

DEBUG = False
SECRET_KEY = env.text("SECRET_KEY", default="local-development-only-never-a-secret-0123456789abcdef")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
TRUSTED_PROXY_HOPS = env.integer("TRUSTED_PROXY_HOPS", default=0)
# Where the usual development servers of frontends listen.
CORS_ALLOWED_ORIGINS = env.words(
    "CORS_ALLOWED_ORIGINS", default=["http://localhost:3000", "http://localhost:5173"]
)
INSTALLED_APPS = [*INSTALLED_APPS, "apps.sandbox"]

DATABASES = common.databases(default="postgresql://tranche@127.0.0.1:5432/tranche")
REDIS_URL = env.text("REDIS_URL", default="redis://127.0.0.1:6379/0")
CACHES = common.caches(REDIS_URL)

# Development keys, published here on purpose: they protect nothing but a sandbox.
ENCRYPTION_KEYS = env.keyring("ENCRYPTION_KEYS", default="dev:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
SIGNER_KEYS = env.keyring("SIGNER_KEYS", default="dev:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=")
ACCESS_TOKEN_KEYS = env.keyring(
    "ACCESS_TOKEN_KEYS", default="dev:YWNjZXNzLXRva2Vucy1vZi1hLXNhbmRib3gtb25seS4="
)
REFRESH_COOKIE_SECURE = False
DEPOSIT_XPUB = env.text(
    "DEPOSIT_XPUB",
    default="xpub6CEPp4ARn3FbFPd33YQdW8tFtduVgTLGRJH8PXj5hoDjcqWuE4D494f5GeM1JrsDbESoCNCiRMNUAjbKT84HhUdUN6hogVaC3qgS5oAtbSw",
)
SIGNER_DEPOSIT_XPRV = env.text(
    "SIGNER_DEPOSIT_XPRV",
    default="xprv9yF3QYdXwfhJ2uYZwWsd8zwXLc51GzcR45MXb9KU9Tgkk3BkgWtobGLbRNxwkUvNwXkYwJwTMm7kF1LYksXETHBZ6hsG32MEgmi7pdvJAjW",
)

# The admin is the mailbox, unless the environment names a provider.
MAIL_TRANSPORT = common.mail_transport(default="database")
MAIL_FROM = env.text("MAIL_FROM", default="Tranche <hello@tranche.example>")
PUBLIC_URL = env.text("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")

CLOCK = "apps.sandbox.clock.SandboxClock"
FAILPOINTS = env.text("FAILPOINTS", default="")
LEASE_SCALE = float(env.text("LEASE_SCALE", default="1"))
LOGGING = common.logging(
    level=env.text("LOG_LEVEL", default="INFO"), json=env.text("LOG_FORMAT", default="console") == "json"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
# Look a file up when it is asked for: nothing is collected here, and a start need not walk every package.
WHITENOISE_AUTOREFRESH = True
