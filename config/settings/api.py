"""The API's settings: DRF, the OpenAPI document, content security policy, request ids in logs."""

from typing import Any

from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF

from config import env

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.api.authentication.AccessTokenAuthentication",
        "apps.accounts.api.authentication.ApiKeyAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.accounts.api.permissions.HasScope"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["apps.core.api.renderers.JsonRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apps.core.api.renderers.OneRepresentation",
    "DEFAULT_SCHEMA_CLASS": "apps.core.api.schema.ProblemAutoSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "apps.core.api.exceptions.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

# How often, as `limits` reads it (apps.core.api.limits). Nobody gets more within any window of that length.
API_LIMITS: dict[str, str] = {
    # Of one API key, or of a person with all their sessions, or of an address that shows neither.
    "api": f"{env.integer('API_LIMIT_PER_SECOND', default=10)}/second",
    # Of one address, on paths that begin so; held without Redis, too.
    "sign_in": f"{env.integer('SIGN_IN_LIMIT_PER_SECOND', default=5)}/second",
    "keys": "30/minute",
}
SIGN_IN_PATHS = ("/api/v1/auth/", "/admin/login")

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "ENUM_NAME_OVERRIDES": {
        "PlanState": "apps.plans.models.PlanState",
        "SlotState": "apps.plans.models.SlotState",
        "SlotReason": "apps.plans.models.SlotReason.values",
        "BatchState": "apps.plans.models.BatchState",
        "MissedPolicy": ["run_once", "skip", "run_all"],
        "ScheduleKind": ["hourly", "daily", "weekly", "monthly", "cron"],
        "TransactionState": "apps.chain.domain.TransactionState",
        "AttemptKind": "apps.chain.domain.AttemptKind",
        "NetworkStatus": "apps.chain.api.serializers.NETWORK_STATUSES",
        "MonitorState": ["running", "stalled", "halted"],
        "DepositReason": "apps.deposits.domain.UnsupportedReason.values",
        "WithdrawalState": "apps.withdrawals.domain.WithdrawalState",
        "WithdrawalReason": "apps.withdrawals.domain.Reason",
        "WithdrawalWait": "apps.withdrawals.domain.Wait",
        "EventTopic": "apps.events.topics.PERSON_TOPICS",
        "ProblemCode": "apps.core.api.codes.PROBLEM_CODES",
        "Scope": "apps.accounts.api.serializers.SCOPES",
        "FlowId": "apps.accounts.signin.api.serializers.FLOWS",
        "FactorType": "apps.accounts.signin.api.serializers.FACTOR_TYPES",
        "TokenType": ["Bearer"],
        "TokenTransport": "apps.accounts.tokens.models.Transport",
        "SignUpState": ["open", "invitation", "closed"],
        "WaitlistOpen": ["open", "closed"],
        "Language": [("en", "English")],
        "DepositState": "apps.deposits.domain.DepositState",
        "DepositKind": "apps.deposits.domain.DepositKind",
        "PlatformState": "apps.launch.domain.State",
        "WaitlistState": "apps.launch.domain.EntryState",
        "ExportState": "apps.accounts.me.domain.ExportState",
        "WaitlistJoined": ["code_sent"],
        "HealthStatus": ["ok"],
        "ReservesVerdict": "apps.treasury.models.Verdict",
    },
    "TITLE": "Tranche API",
    "DESCRIPTION": (
        "Recurring crypto investing: plans, slots, balances.\n\n"
        "Amounts are decimal strings. Errors are problem documents (RFC 9457). Lists are paged by cursor. "
        "Requests that move money need an `Idempotency-Key` header."
    ),
    "GET_LIB_DOC_EXCLUDES": "apps.core.api.schema.bases_without_words",
    "VERSION": "1",
    "TAGS": [
        {
            "name": "sign-in",
            "description": "Signing up and in, step by step, and the factors that show who you are.",
        },
        {"name": "sessions", "description": "Where you are signed in; the next tokens; signing out."},
        {
            "name": "accounts",
            "description": "You: profile, preferences, API keys, your data, closing the account.",
        },
        {"name": "networks", "description": "The networks and the tokens that are known on each."},
        {"name": "markets", "description": "What can be bought with what, and the assets."},
        {"name": "fees", "description": "What a buy would cost now, and why."},
        {"name": "deposits", "description": "Money in: your address, and what arrived there."},
        {"name": "plans", "description": "Recurring buys, their slots, and why each ended as it did."},
        {"name": "ledger", "description": "Balances and the statement, to the last unit."},
        {"name": "withdrawals", "description": "Money out: addresses, quotes, withdrawals."},
        {"name": "events", "description": "What happens to you: live, and page by page."},
        {"name": "waitlist", "description": "Before the launch."},
        {
            "name": "operations",
            "description": "The platform's state, health and reserves; no key is asked for.",
        },
    ],
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": False, "displayRequestDuration": True},
}

# The API's answers need nothing. The pages that need more say so: the two documentation views with
# decorators, the admin in `config.settings.admin`.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
DOCS_POLICY: dict[str, Any] = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "connect-src": [SELF],
    "font-src": [SELF, "data:"],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
    "img-src": [SELF, "data:"],
    "script-src": [SELF],
    # Both viewers write style attributes while they run; a nonce cannot reach those.
    "style-src": [SELF, "'unsafe-inline'"],
    # Redoc searches in a worker that it makes from a blob.
    "worker-src": [SELF, "blob:"],
}

# Beside those that Django has settings for. Nothing here asks a browser for a device, and other sites embed nothing.
SECURITY_HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(
        f"{feature}=()"
        for feature in (
            *("accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "geolocation"),
            *("gyroscope", "magnetometer", "microphone", "midi", "payment", "picture-in-picture"),
            *("screen-wake-lock", "usb", "xr-spatial-tracking"),
        )
    ),
    "X-Frame-Options": "DENY",
}

# Which origins may call is each environment's word; what they may send and read is the API's.
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    *default_headers, "idempotency-key", "last-event-id", "x-csrf-token", "x-request-id", "x-session-token",
    "x-token-transport",
]  # fmt: skip
# For the refresh cookie. Which origins these are is a list, never "any".
CORS_ALLOW_CREDENTIALS = True
CORS_EXPOSE_HEADERS = [
    *("X-Request-Id", "Idempotent-Replayed", "Retry-After", "Location"),
    *("RateLimit", "RateLimit-Policy"),
]

# ProblemMiddleware has already replaced an ill-formed id when django-structlog reads the header.
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
DJANGO_STRUCTLOG_STATUS_4XX_LOG_LEVEL = 20

# `/metrics` from outside loopback and private networks.
METRICS_TOKEN = env.text("METRICS_TOKEN", default="")
