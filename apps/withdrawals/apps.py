from collections.abc import Collection

from django.apps import AppConfig, apps


def _deposit_addresses(addresses: Collection[str]) -> set[str]:
    """Those that were given to people to deposit at. By name: deposits is a sibling, which is never imported."""
    rows = apps.get_model("deposits", "DepositAddress")._default_manager.filter(address__in=addresses)
    return set(rows.values_list("address", flat=True))


class WithdrawalsConfig(AppConfig):
    name = "apps.withdrawals"
    label = "withdrawals"

    def ready(self) -> None:
        from apps.chain.gates import gate_register
        from apps.chain.selectors import own_addresses_register
        from apps.withdrawals import invariants, kinds, metrics, personal  # noqa: F401 — registration
        from apps.withdrawals.domain import PURPOSE
        from apps.withdrawals.guards import signing_gate

        gate_register(PURPOSE, signing_gate)
        own_addresses_register("deposits", _deposit_addresses)
