"""For the stream processes of the tests: quicker, and with room for fewer."""

from config.settings.test import *  # noqa: F403

STREAMS_PER_PERSON = 3
CORS_ALLOWED_ORIGINS = ["https://app.example"]
STREAM_HEARTBEAT_SECONDS = 0.5
STREAM_PATIENCE_SECONDS = 1.5
