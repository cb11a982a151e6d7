"""The proof of reserves as anybody may see it: totals, no address."""

from typing import Any

from rest_framework import serializers

from apps.core.api.amounts import amount_format
from apps.treasury.models import ReservesSnapshot, Verdict


class ReserveSerializer(serializers.Serializer[ReservesSnapshot]):
    asset = serializers.CharField(source="asset.code")
    network = serializers.CharField(source="network.name")
    verdict = serializers.ChoiceField(
        choices=Verdict.choices,
        help_text="`matched` when `on_chain` is `ledger` plus `in_flight` for every single wallet of ours.",
    )
    liabilities = serializers.SerializerMethodField(help_text="What people have, available and held.")
    on_chain = serializers.SerializerMethodField(help_text="What our wallets hold at `block_number`.")
    ledger = serializers.SerializerMethodField(help_text="What the books say that they hold.")
    in_flight = serializers.SerializerMethodField(
        help_text="Mined by then and not booked yet: arrivals, purchases, withdrawals, gas; may be negative."
    )
    difference = serializers.SerializerMethodField(help_text="`on_chain` - `ledger` - `in_flight`.")
    block_number = serializers.IntegerField(allow_null=True, help_text="Null before the first comparison.")
    since_block = serializers.IntegerField(
        allow_null=True, help_text="The first block at which a present difference was seen."
    )
    checked_at = serializers.DateTimeField(source="looked_at")

    def get_liabilities(self, row: ReservesSnapshot) -> str:
        return _amount(row, row.liabilities_units)

    def get_on_chain(self, row: ReservesSnapshot) -> str:
        return _amount(row, row.chain_units)

    def get_ledger(self, row: ReservesSnapshot) -> str:
        return _amount(row, row.ledger_units)

    def get_in_flight(self, row: ReservesSnapshot) -> str:
        return _amount(row, row.in_flight_units)

    def get_difference(self, row: ReservesSnapshot) -> str:
        return _amount(row, row.difference_units)


def _amount(row: ReservesSnapshot, units: int) -> str:
    return amount_format(units, decimals=row.asset.decimals)


class ReservesSerializer(serializers.Serializer[Any]):
    data = ReserveSerializer(many=True)  # type: ignore[assignment]
