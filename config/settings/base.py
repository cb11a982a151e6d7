"""What every environment shares. The environment itself is read through `config.env` only."""

from config import env
from config.settings import common
from config.settings.admin import *  # noqa: F403
from config.settings.api import *  # noqa: F403
from config.settings.signin import *  # noqa: F403

BASE_DIR = env.BASE_DIR

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "config.admin_app.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_prometheus",
    "django_structlog",
    "corsheaders",
    "csp",
    "axes",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.headless",
    "apps.core",
    "apps.events",
    "apps.mail",
    "apps.accounts",
    "apps.ledger",
    "apps.chain",
    "apps.treasury",
    "apps.deposits",
    "apps.withdrawals",
    "apps.providers",
    "apps.fees",
    "apps.plans",
    "apps.launch",
    "apps.operations",
    "apps.stream",
    "apps.notifications",
    "workers",
    "config",
]

MIDDLEWARE = [
    "apps.core.api.middleware.RequestMetricsMiddleware",
    # Outside of everything that may answer by itself: no answer leaves without its headers.
    "apps.core.api.middleware.PolicyMiddleware",
    "apps.core.api.middleware.HeadersMiddleware",
    # Outside of the problems, or a page of an allowed origin could not read why it was refused.
    "corsheaders.middleware.CorsMiddleware",
    "apps.core.api.middleware.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "apps.core.api.middleware.SignInLimitMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.core.api.middleware.RequestLogMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",
    "apps.accounts.audit.origin.OriginMiddleware",
    # After the route is known and before its view: what the platform's state does not answer ends here.
    "apps.launch.middleware.PlatformStateMiddleware",
]

# The default makes two stores for every request, the API's too; only the admin has messages, and a session.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
# In which there are texts for mails.
LANGUAGES = [("en", "English")]
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# How many proxies stand before this process and add to X-Forwarded-For (apps.core.api.client_address).
TRUSTED_PROXY_HOPS = 0

# A request body above this is refused with 413 before anything parses it.
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024

# Live plans (active or paused) that one person may have.
PLANS_PER_PERSON = 100
# How long a new withdrawal destination rests before it may be used: time to notice a stolen key.
WITHDRAWAL_DESTINATION_WAIT_SECONDS = 24 * 3_600
WITHDRAWAL_DESTINATIONS_PER_PERSON = 50

# Access tokens: whom they are from and for. A token of another installation is refused whatever signed it.
ACCESS_TOKEN_ISSUER = env.text("ACCESS_TOKEN_ISSUER", default="tranche")
ACCESS_TOKEN_AUDIENCE = env.text("ACCESS_TOKEN_AUDIENCE", default="tranche-api")

# The cookie that browsers keep the refresh token in, and the one beside it that their scripts read.
REFRESH_COOKIE_NAME = "tranche_refresh"
REFRESH_COOKIE_DOMAIN = env.text("REFRESH_COOKIE_DOMAIN", default="")
REFRESH_COOKIE_PATH = env.text("REFRESH_COOKIE_PATH", default="/api/v1/auth")
REFRESH_COOKIE_SAMESITE = env.text("REFRESH_COOKIE_SAMESITE", default="Strict")
REFRESH_CSRF_COOKIE_NAME = "tranche_refresh_csrf"

# Deposits are collected when they are worth this many times the gas that collecting them burns.
SWEEP_FACTOR = env.integer("SWEEP_FACTOR", default=20)
# How long a batch waits for units that still lie at deposit addresses, before its slots end.
COLLECTION_TIMEOUT_SECONDS = env.integer("COLLECTION_TIMEOUT_SECONDS", default=1_800)

# Live streams that one person may have open, over all processes; and one process, over all people.
STREAMS_PER_PERSON = 10
STREAM_CONNECTIONS = env.integer("STREAM_CONNECTIONS", default=2_000)
# Below what proxies usually allow a silent connection (30 s and more).
STREAM_HEARTBEAT_SECONDS = 15.0
# How long a client may take nothing off its connection before its stream ends; it resumes where it was.
STREAM_PATIENCE_SECONDS = 20.0
# What mails and pages call us.
PLATFORM_NAME = env.text("PLATFORM_NAME", default="Tranche")
# Mails that leave in a second, over all workers; 0: as many as can. What the provider refuses anyway is tried again.
MAIL_PER_SECOND = env.integer("MAIL_PER_SECOND", default=0)
# How long addresses, contents and providers' words of mails are kept (apps.mail.forgetting).
MAIL_KEPT_DAYS = common.mail_kept_days()
RESEND_API_KEY = env.text("RESEND_API_KEY", default="")
RESEND_API_URL = env.text("RESEND_API_URL", default="https://api.resend.com/")
# The first signs new webhooks, the others those that are still on their way during a rotation.
RESEND_WEBHOOK_SECRETS = env.words("RESEND_WEBHOOK_SECRETS", default=[])
SMTP = common.smtp(env.text("SMTP_URL", default=""))

CLOCK = "apps.core.clock.SystemClock"
FAILPOINTS: str = ""
# Development may shorten leases, so that what a killed worker held is taken over in a second or two.
LEASE_SCALE: float = 1.0
VERSION = env.text("RELEASE", default="0.1.0")

# Celery on Redis: why each value is what it is stands in docs/decisions/0002-celery-on-redis.md.
CELERY_TASK_HARD_LIMIT_SECONDS = 120
CELERY_VISIBILITY_TIMEOUT_SECONDS = 300
