"""Every process of production, whose credentials are canaries."""

import base64
import http.client
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from django.conf import settings
from django.db import connection

from apps.accounts.services import api_key_create, user_create
from apps.chain import derivation, services
from apps.chain.models import Wallet
from apps.core.models import Asset
from apps.sandbox.runtime.ports import port_pick
from apps.sandbox.runtime.processes import Child
from apps.sandbox.runtime.valkey import Valkey
from tests.core.canaries.cage import Cage
from tests.core.canaries.listening import Listener, Sentry
from tests.support.stack import wait_until
from tests.support.web import database_copy, web_start

ROLES = ("worker", "signer", "beat", "flower")


@dataclass
class Platform:
    cage: Cage
    directory: Path
    database: str
    web: int
    broken: int
    flower: int
    sentry: Sentry
    listener: Listener
    redis: redis.Redis


@contextmanager
def platform_running(directory: Path) -> Iterator[Platform]:
    """On a copy of the tests' database; `django_db_blocker` is the caller's affair."""
    cage = Cage()
    xpub, cage.xprv = derivation.account_make()
    with ExitStack() as stack:
        keeper = stack.enter_context(_keeper(cage.database))
        url = stack.enter_context(database_copy())
        keys = {"ENCRYPTION_KEYS": {"k": cage.encryption}, "SIGNER_KEYS": {"s": cage.signer}}
        for name, value in keys.items():
            before = getattr(settings, name)
            setattr(settings, name, value)
            stack.callback(setattr, settings, name, before)
        sentry = Sentry()
        _fill(cage, f"http://127.0.0.1:{sentry.server_port}/v2/{cage.endpoint}?key={cage.endpoint}")
        threading.Thread(target=sentry.serve_forever, daemon=True).start()
        stack.callback(sentry.server_close)
        stack.callback(sentry.shutdown)
        valkey = Valkey(directory / "valkey")
        valkey.start()
        stack.callback(valkey.stop)
        server = redis.Redis.from_url(valkey.url)
        server.config_set("requirepass", cage.redis)
        locked = f"redis://:{cage.redis}@127.0.0.1:{valkey.port}/0"
        listener = Listener(locked)
        listener.start()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONWARNINGS": "ignore",
            "DJANGO_SETTINGS_MODULE": "tests.core.canaries.settings",
            "SECRET_KEY": cage.secret_key,
            "ENCRYPTION_KEYS": f"k:{base64.b64encode(cage.encryption).decode()}",
            "ACCESS_TOKEN_KEYS": f"t:{base64.b64encode(cage.access_tokens).decode()}",
            "RESEND_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(cage.webhook.encode()).decode()}",
            "RESEND_API_KEY": cage.resend,
            "MAIL_TRANSPORT": "database",
            "MAIL_FROM": "hello@tranche.example",
            "PUBLIC_URL": "https://tranche.example",
            "DEPOSIT_XPUB": xpub,
            "DATABASE_URL": f"postgresql://{keeper}:{cage.database}@{url.rpartition('@')[2]}",
            "REDIS_URL": locked,
            "ALLOWED_HOSTS": "127.0.0.1",
            "TRUSTED_PROXY_HOPS": "0",
            "METRICS_TOKEN": cage.metrics,
            "SENTRY_DSN": f"http://{cage.sentry}@127.0.0.1:{sentry.server_port}/1",
            "FLOWER_BASIC_AUTH": f"ops:{cage.flower}",
            "LOG_LEVEL": "DEBUG",
            "WORKER_CONCURRENCY": "1",
            "API_LIMIT_PER_SECOND": "1000",
            "SIGN_IN_LIMIT_PER_SECOND": "1000",
        }
        gone = {
            "DATABASE_URL": f"postgresql://tranche:{cage.database}@127.0.0.1:1/tranche",
            "REDIS_URL": f"redis://:{cage.redis}@127.0.0.1:1/0",
        }
        ports = []
        for name, more in (("web", {}), ("broken", gone)):
            child, port = web_start(directory, name=name, environment={**environment, **more}, alone=True)
            stack.callback(child.stop)
            ports.append(port)
        flower = port_pick()
        children = {}
        for role in ROLES:
            own = {"HEARTBEAT_DIR": str(directory / role), "FLOWER_PORT": str(flower)}
            if role == "signer":
                own["SIGNER_KEYS"] = f"s:{base64.b64encode(cage.signer).decode()}"
                own["SIGNER_DEPOSIT_XPRV"] = cage.xprv
            (directory / role).mkdir()
            children[role] = Child(
                name=role,
                argv=[sys.executable, "-m", "config.roles", role],
                log=directory / f"{role}.log",
                environment={**environment, **own},
                directory=settings.BASE_DIR,
            )
            children[role].start()
            stack.callback(children[role].stop)
        for role in ("worker", "signer", "beat"):
            heart = directory / role / "tranche.heartbeat"
            wait_until(
                heart.exists,
                seconds=90,
                what=f"{role} beats",
            )
        wait_until(
            lambda: flower_ask(flower, "/healthcheck", cage)[0] == 200, seconds=60, what="Flower answers"
        )
        yield Platform(
            cage, directory, url, ports[0], ports[1], flower, sentry, listener, redis.Redis.from_url(locked)
        )


@contextmanager
def _keeper(password: str) -> Iterator[str]:
    """A role of the database server whose password is the canary."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{password}'")
    yield "keeper"
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE keeper")
    connection.close()


def _fill(cage: Cage, node: str) -> None:
    """People, keys, an endpoint that is away and costs money to use, and transactions that cannot be signed."""
    user = user_create(email="root@example.org", password=cage.password, is_staff=True)
    cage.api_key = api_key_create(user_id=user.pk, name="all", scopes=["plans:read", "keys:write"]).key
    native = Asset.objects.create(code="ETH", name="Ether", decimals=18)
    network = services.network_create(chain_id=1, name="mainnet", native_asset_id=native.pk)
    services.endpoint_add(network_id=network.pk, name="paid", url=node)
    away = f"http://user:{cage.endpoint}@127.0.0.1:1/v2/{cage.endpoint}?key={cage.endpoint}"
    services.endpoint_add(network_id=network.pk, name="away", url=away, priority=20)
    good = services.wallet_import(key=cage.wallet, role="swap", name="swaps")
    broken = services.wallet_create(role="treasury", name="broken")
    Wallet.objects.filter(pk=broken.pk).update(key_ciphertext=Wallet.objects.get(pk=good.pk).key_ciphertext)
    services.signer_rule_allow(network_id=network.pk, to="0x" + "12" * 20)
    for number, wallet in enumerate((good, broken)):
        services.wallet_cap_set(
            wallet_id=wallet.pk, asset_id=native.pk, per_transaction_units=10**18, daily_units=10**18
        )
        services.transaction_request(
            network_id=network.pk, wallet_id=wallet.pk, to="0x" + "12" * 20, data="0x", gas_limit=50_000,
            purpose="test", reference=f"test-{number}", value_units=1,
        )  # fmt: skip


def flower_ask(port: int, path: str, cage: Cage) -> tuple[int, str]:
    return ask(
        port,
        "GET",
        path,
        {"Authorization": "Basic " + base64.b64encode(f"ops:{cage.flower}".encode()).decode()},
    )


def ask(port: int, method: str, path: str, headers: dict[str, str], body: str = "") -> tuple[int, str]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        link.request(method, path, body=body or None, headers={"X-Forwarded-Proto": "https", **headers})
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        link.close()
