"""For the process that `test_granian` starts: the tests' settings with the probes mounted."""

from config.settings.test import *  # noqa: F403

ROOT_URLCONF = "tests.core.api.urls"
