"""How addresses and deposits look on the wire: each amount as a decimal string and as base units."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.chain.abi import checksum
from apps.chain.api.serializers import NETWORK_STATUSES
from apps.core.api.amounts import amount_format
from apps.core.api.fields import AmountField, AssetField, IdField, InstantField, OneOfField
from apps.core.api.views import PageQuerySerializer
from apps.core.qr import qr_svg
from apps.deposits.domain import DepositKind, DepositState, UnsupportedReason
from apps.deposits.models import Deposit, DepositAddress
from apps.deposits.payment import payment_uri
from apps.deposits.selectors import Accepted
from apps.ledger.api.serializers import UnitsStringField


class AcceptedSerializer(serializers.Serializer[Accepted]):
    """One asset on one network."""

    # Wants `address` in its context.

    network_id = serializers.UUIDField(source="network.pk")
    network = serializers.CharField(source="network.name")
    chain_id = serializers.IntegerField(source="network.chain_id")
    status = serializers.SerializerMethodField(
        help_text="`running`, or `halted`: deposits are safe and are credited later."
    )
    asset = serializers.CharField(source="asset.code")
    name = serializers.CharField(source="asset.name")
    decimals = serializers.IntegerField(source="asset.decimals")
    token_address = serializers.SerializerMethodField(
        help_text="The contract, with its EIP-55 checksum; `null` for the native coin."
    )
    minimum = AmountField(
        asset="asset", source="minimum_units", help_text="Less waits until it adds up to this."
    )
    minimum_units = UnitsStringField()
    confirmations = serializers.IntegerField(
        source="network.confirmations", help_text="Depth at which it is credited; its own block is the first."
    )
    expected_seconds = serializers.IntegerField(help_text="From its block to your balance, as a rule.")
    payment_uri = serializers.SerializerMethodField(help_text="EIP-681, without an amount.")
    qr_svg = serializers.SerializerMethodField(help_text="The payment URI as a QR code: an SVG document.")

    @extend_schema_field(serializers.ChoiceField(choices=NETWORK_STATUSES))
    def get_status(self, row: Accepted) -> str:
        return "halted" if row.network.halted_at else "running"

    def get_token_address(self, row: Accepted) -> str | None:
        return checksum(row.token_address) if row.token_address else None

    def get_payment_uri(self, row: Accepted) -> str:
        address: DepositAddress = self.context["address"]
        return payment_uri(
            address=address.address, chain_id=row.network.chain_id, token_address=row.token_address
        )

    def get_qr_svg(self, row: Accepted) -> str:
        return qr_svg(self.get_payment_uri(row))


class DepositAddressSerializer(serializers.Serializer[DepositAddress]):
    # Wants `accepted` in its context.
    id = serializers.UUIDField()
    address = serializers.SerializerMethodField(
        help_text="The same on every network, with its EIP-55 checksum."
    )
    created_at = InstantField()
    accepted = serializers.SerializerMethodField(
        help_text="Whatever else is sent there waits for an operator."
    )

    def get_address(self, row: DepositAddress) -> str:
        return checksum(row.address)

    @extend_schema_field(AcceptedSerializer(many=True))
    def get_accepted(self, row: DepositAddress) -> Any:
        return AcceptedSerializer(self.context["accepted"], many=True, context={"address": row}).data


class DepositAddressesSerializer(serializers.Serializer[Any]):
    data = DepositAddressSerializer(many=True)  # type: ignore[assignment]


class DepositFilterSerializer(PageQuerySerializer):
    state = OneOfField(choices=DepositState.choices, required=False)
    asset = AssetField(required=False)
    network_id = IdField(required=False)


@extend_schema_field({"type": ["string", "null"], "examples": ["12.5"]})
class _DepositAmountField(serializers.Field):  # type: ignore[type-arg]
    """A decimal string; `null` for a token whose decimals nobody knows, or where there is no amount."""

    def to_representation(self, value: str) -> str:
        return value

    def get_attribute(self, instance: Deposit) -> str | None:
        units = getattr(instance, str(self.source))
        if units is None or instance.asset is None:
            return None
        return amount_format(units, decimals=instance.asset.decimals)


class DepositSerializer(serializers.Serializer[Deposit]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=DepositState.choices)
    reason = serializers.ChoiceField(
        choices=["", *UnsupportedReason.values], help_text="Why an operator has to decide; else empty."
    )
    network_id = serializers.UUIDField()
    network = serializers.CharField(source="network.name")
    asset = serializers.CharField(
        source="asset.code", allow_null=True, help_text="`null` for a token that is not known here."
    )
    token_address = serializers.SerializerMethodField(help_text="`null` for the native coin.")
    kind = serializers.ChoiceField(choices=DepositKind.choices)
    address = serializers.SerializerMethodField()
    sender = serializers.SerializerMethodField()
    amount = _DepositAmountField(source="amount_units", help_text="As the chain announced it.")
    amount_units = UnitsStringField()
    measured = _DepositAmountField(
        source="measured_units",
        help_text="What the balance grew by; `null` while, or where, nobody measured it.",
    )
    measured_units = UnitsStringField(allow_null=True)
    credited = _DepositAmountField(source="credited_units", help_text="What you have because of it.")
    credited_units = UnitsStringField()
    owed = _DepositAmountField(
        source="owed_units", help_text="What the chain took back after it was spent and nobody paid yet."
    )
    owed_units = UnitsStringField()
    transaction_hash = serializers.CharField()
    position = serializers.IntegerField(help_text="Which transfer of its transaction.")
    block_number = serializers.IntegerField()
    block_time = InstantField(allow_null=True)
    confirmations = serializers.SerializerMethodField(
        help_text="Blocks on it, its own included, as we know them."
    )
    confirmations_needed = serializers.IntegerField(source="network.confirmations")
    created_at = InstantField()
    credited_at = InstantField(allow_null=True)

    def get_token_address(self, row: Deposit) -> str | None:
        return checksum(row.contract) if row.contract else None

    def get_address(self, row: Deposit) -> str:
        return checksum(row.address.address)

    def get_sender(self, row: Deposit) -> str:
        return checksum(row.sender)

    def get_confirmations(self, row: Deposit) -> int:
        seen = row.network.watched_block
        gone = row.state in (DepositState.ORPHANED, DepositState.REVERSED, DepositState.FROZEN)
        return 0 if seen is None or gone else int(max(0, seen - row.block_number + 1))
