"""For the processes that `test_canaries` starts: production's settings, with the probes that crash mounted."""

from config.settings.production import *  # noqa: F403

ROOT_URLCONF = "tests.core.api.urls"
