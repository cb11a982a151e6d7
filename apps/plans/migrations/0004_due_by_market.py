"""The indexes of what is due, anew: by market within an instant, and slots without their state.

Steps claim market by market, which the old order could only do by sorting all that fell due at one instant. And a slot
that is reserved changes nothing of the new one, so that its UPDATE touches no index. Built while others write; workers
of the release before claim by reading the table until they are replaced."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("plans", "0003_room_for_updates")]

    operations = [
        AddIndexConcurrently(
            "plan",
            models.Index(
                fields=["run_after", "market", "id"],
                condition=models.Q(("buried_at__isnull", True), ("state", "active")),
                name="plans_plan_due_by_market",
            ),
        ),
        AddIndexConcurrently(
            "slot",
            models.Index(
                fields=["run_after", "market", "id"],
                condition=models.Q(
                    ("batch__isnull", True), ("buried_at__isnull", True), ("closed_at__isnull", True)
                ),
                name="plans_slot_due_by_market",
            ),
        ),
        RemoveIndexConcurrently("plan", "plans_plan_due"),
        RemoveIndexConcurrently("slot", "plans_slot_due"),
    ]
