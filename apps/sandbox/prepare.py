"""From an empty database to a platform that can trade: migrations, partitions, seed, the operator's login."""

import json
import secrets
from pathlib import Path

from django.core.management import call_command
from django.db import transaction

from apps.accounts import second_factor
from apps.accounts.models import User
from apps.accounts.roles import STAFF_ROLES, role_grant
from apps.accounts.selectors import user_by_email
from apps.accounts.services import user_create
from apps.core import partitions
from apps.core.errors import NotFound
from apps.core.models import WorkProbe
from apps.sandbox.authenticator import code_now
from apps.sandbox.market import Market
from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.files import file_write
from apps.sandbox.runtime.rpc import Rpc
from apps.sandbox.runtime.status import SandboxStatus
from apps.sandbox.seed import gas_fund, money_open, seed
from apps.sandbox.supervisor import OPERATOR_FILE

OPERATOR_EMAIL = "operator@example.com"


def database_prepare(status: SandboxStatus) -> None:
    """Make the running sandbox's database ready; safe to repeat. Needs the keys' key: it makes the wallet.

    Leaves one durable no-op behind. When it is done, beat, broker, worker and database work together.
    """
    if status.deployment is None:
        raise SandboxError("the sandbox has no chain")
    call_command("migrate", verbosity=0, interactive=False)
    partitions.ensure()
    seeded = seed(status.deployment, rpc_url=status.urls["rpc"])
    money_open(seeded)
    gas_fund(seeded, Market(Rpc(status.urls["rpc"]), status.deployment))
    _operator_ensure(status.directory / OPERATOR_FILE)
    WorkProbe.objects.create()


def _operator_ensure(login: Path) -> None:
    """An operator of every role, with a password of this directory's own in a file that only its owner reads."""
    try:
        operator: User = user_by_email(email=OPERATOR_EMAIL)
        known = login.exists()
    except NotFound:
        operator, known = user_create(email=OPERATOR_EMAIL), False
    if known:
        return
    password = secrets.token_urlsafe(12)
    operator.set_password(password)
    operator.save()
    for role in STAFF_ROLES:
        role_grant(user_id=operator.pk, role=role, actor="sandbox")
    file_write(
        login,
        json.dumps({"email": OPERATOR_EMAIL, "password": password, "totp_secret": _factor(operator)}),
        mode=0o600,
    )


def _factor(operator: User) -> str:
    """A second factor whose codes `manage.py sandbox code` shows; its secret, empty where there is one already."""
    enrolment = second_factor.enrolment()
    if enrolment is None:
        return ""
    secret = enrolment.offer(user_id=operator.pk).secret
    with transaction.atomic():
        # The code before the present one, which stays good for the first login.
        codes = enrolment.confirm(user_id=operator.pk, secret=secret, code=code_now(secret, steps=-1))
    return secret if codes is not None else ""
