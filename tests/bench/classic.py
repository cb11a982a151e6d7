"""The tasks of the baselines: one Celery task per item, with the platform's own Celery settings."""

from config.celery import app

QUEUE = "bench"


@app.task(name="bench.noop")
def noop() -> None:
    """As little as a task can do: the baseline is given no work to be slow at."""


@app.task(name="bench.buy")
def buy(plan_id: str) -> None:
    """One plan, bought from its lock to its booking (`oneplan`)."""
    from tests.bench import oneplan  # the models are there only once Celery has set Django up

    oneplan.buy(plan_id)


@app.task(name="bench.withdraw")
def withdraw(withdrawal_id: str) -> None:
    """The baseline of withdrawals: the same questions and the same writes for one row, in a transaction of its own."""
    from django.db import transaction

    from apps.withdrawals.domain import WithdrawalState
    from apps.withdrawals.guards import waits
    from apps.withdrawals.models import Withdrawal
    from apps.withdrawals.sending import _look, _send

    row = Withdrawal.objects.select_related("network").get(pk=withdrawal_id)
    outlook = _look(row.network, [row])
    with transaction.atomic():
        locked = Withdrawal.objects.select_for_update().get(pk=withdrawal_id)
        if (
            locked.state == WithdrawalState.APPROVED
            and locked.pk in outlook.gas_limits
            and not waits([locked])
        ):
            _send([locked], outlook)
