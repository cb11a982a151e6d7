"""What callers send, and how withdrawals look: each amount as a decimal string and as base units."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.chain import abi
from apps.chain.domain import TransactionState
from apps.core.api.fields import AmountField, AssetField, InstantField, OneOfField, TextField
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import PageQuerySerializer
from apps.ledger.api.serializers import UnitsStringField
from apps.withdrawals.domain import Reason, Wait, WithdrawalState
from apps.withdrawals.errors import DestinationRefused
from apps.withdrawals.guards import address_parse
from apps.withdrawals.models import Withdrawal, WithdrawalDestination

_ADDRESS = {
    "type": "string",
    "pattern": "^0x[0-9a-fA-F]{40}$",
    "examples": ["0x52908400098527886E0F7030069857D2E4169EE7"],
}


@extend_schema_field(_ADDRESS)
class EvmAddressField(serializers.Field):  # type: ignore[type-arg]
    """An address with its EIP-55 checksum, or all lower case; always shown with it."""

    default_error_messages = {"invalid": "An address is a string."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        try:
            return address_parse(data)
        except DestinationRefused as error:
            raise serializers.ValidationError(error.detail, code=error.code) from error

    def to_representation(self, value: Any) -> str:
        return abi.checksum(str(value))


class WithdrawalQuoteWriteSerializer(StrictSerializer):
    asset = AssetField()
    amount = AmountField(
        asset="asset", source="amount_units", help_text="What leaves the account, fee included."
    )


class WithdrawalWriteSerializer(WithdrawalQuoteWriteSerializer):
    destination = EvmAddressField(help_text="One of your destinations that may be used already.")
    max_fee = AmountField(
        asset="asset",
        source="max_fee_units",
        required=False,
        allow_zero=True,
        help_text="Refuse when the fee is above this by now: the quote that you saw.",
    )


class WithdrawalFilterSerializer(PageQuerySerializer):
    state = OneOfField(choices=WithdrawalState.values, required=False)
    asset = AssetField(required=False)


class ConfirmSerializer(StrictSerializer):
    code = TextField(max_length=64)


class DestinationWriteSerializer(StrictSerializer):
    address = EvmAddressField()
    label = TextField(max_length=80)  # type: ignore[assignment]


class DestinationSerializer(serializers.Serializer[WithdrawalDestination]):
    id = serializers.UUIDField()
    address = EvmAddressField()
    label = serializers.CharField()  # type: ignore[assignment]
    usable_at = InstantField(help_text="Withdrawals to it are refused before.")
    created_at = InstantField()


class WithdrawalWhySerializer(serializers.Serializer[Any]):
    code = serializers.CharField(
        help_text="Stable: inside, flat, gas, gas_paid, approval, daily_limit, hourly_limit."
    )
    text = serializers.CharField()


class WithdrawalQuoteSerializer(serializers.Serializer[Any]):
    asset = serializers.CharField(source="asset.code")
    amount = AmountField(asset="asset", source="amount_units")
    amount_units = UnitsStringField()
    fee = AmountField(asset="asset", source="fee_units", help_text="The most that is taken.")
    fee_units = UnitsStringField()
    fee_flat = AmountField(asset="asset", source="flat_units")
    fee_gas = AmountField(asset="asset", source="gas_fee_units")
    sent = AmountField(asset="asset", source="sent_units", help_text="What arrives.")
    sent_units = UnitsStringField()
    needs_approval = serializers.SerializerMethodField(help_text="Two operators must agree first.")
    remaining_today = serializers.SerializerMethodField(help_text="What your limit leaves within 24 hours.")
    why = serializers.SerializerMethodField()

    def get_needs_approval(self, quote: Any) -> bool:
        return bool(self.context["needs_approval"])

    @extend_schema_field({"type": "string", "examples": ["2500"]})
    def get_remaining_today(self, quote: Any) -> str:
        return str(self.context["remaining"])

    @extend_schema_field(WithdrawalWhySerializer(many=True))
    def get_why(self, quote: Any) -> Any:
        return [*quote.why, *self.context["why"]]


class WithdrawalTransactionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=TransactionState.choices)
    hash = serializers.SerializerMethodField(help_text="Of what was mined; empty until then.")
    block_number = serializers.IntegerField(allow_null=True)
    confirmations = serializers.SerializerMethodField()

    def get_hash(self, transaction: Any) -> str:
        return str(transaction.attempt.hash) if transaction.attempt is not None else ""

    def get_confirmations(self, transaction: Any) -> int:
        seen = self.context["network"].watched_block
        if transaction.block_number is None or seen is None:
            return 0
        return int(max(0, seen - transaction.block_number + 1))


class WithdrawalSerializer(serializers.Serializer[Withdrawal]):
    id = serializers.UUIDField()
    asset = serializers.CharField(source="asset.code")
    network = serializers.CharField(source="network.name")
    destination = EvmAddressField()
    state = serializers.ChoiceField(choices=WithdrawalState.choices)
    reason = serializers.ChoiceField(
        choices=[("", "It has not ended"), *Reason.choices],
        help_text="Why it did not leave; empty otherwise.",
    )
    detail = serializers.SerializerMethodField(help_text="What the chain said about it, if anything.")
    wait_reason = serializers.ChoiceField(
        choices=[("", "It does not wait"), *Wait.choices], help_text="Why it is not sent yet."
    )
    amount = AmountField(asset="asset", source="amount_units", help_text="What leaves the account.")
    amount_units = UnitsStringField()
    fee = AmountField(asset="asset", source="fee_units", help_text="As quoted: the most that is taken.")
    fee_units = UnitsStringField()
    fee_charged = AmountField(
        asset="asset",
        source="charged_units",
        allow_null=True,
        help_text="What was taken; the rest came back.",
    )
    fee_charged_units = UnitsStringField(source="charged_units", allow_null=True)
    sent = AmountField(asset="asset", source="sent_units", help_text="What arrives.")
    sent_units = UnitsStringField()
    transaction = serializers.SerializerMethodField()
    created_at = InstantField()
    closed_at = InstantField(allow_null=True)

    def get_detail(self, row: Withdrawal) -> str:
        # An operator's note is between operators.
        return "" if row.reason == Reason.BY_OPERATOR else row.detail

    @extend_schema_field(WithdrawalTransactionSerializer(allow_null=True))
    def get_transaction(self, row: Withdrawal) -> Any:
        if row.transaction is None:
            return None
        return WithdrawalTransactionSerializer(row.transaction, context={"network": row.network}).data
