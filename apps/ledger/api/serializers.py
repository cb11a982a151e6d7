"""What balances and statements look like: each amount as a decimal string and as base units."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.answers import AnswerSerializer
from apps.core.api.fields import AmountField, AssetField, InstantField, OneOfField
from apps.core.api.serializers import StrictSerializer
from apps.core.api.views import PageQuerySerializer


@extend_schema_field(
    {"type": "string", "pattern": r"^-?(0|[1-9][0-9]{0,77})(\.[0-9]{1,36})?$", "examples": ["-12.5"]}
)
class SignedAmountField(AmountField):
    """An amount that may be negative; only ever goes out."""


@extend_schema_field({"type": "string", "pattern": "^-?[0-9]{1,78}$", "examples": ["12500000"]})
class UnitsStringField(serializers.Field):  # type: ignore[type-arg]
    """Base units as a string: JSON numbers lose digits beyond 2^53 in most clients."""

    def to_representation(self, value: int) -> str:
        return str(value)


class BalanceQuerySerializer(StrictSerializer):
    as_of = InstantField(required=False)


class BalanceSerializer(AnswerSerializer[Any]):
    asset = serializers.CharField(source="asset.code")
    decimals = serializers.IntegerField(source="asset.decimals")
    available = AmountField(asset="asset", source="available_units")
    available_units = UnitsStringField()
    held = AmountField(asset="asset", source="held_units")
    held_units = UnitsStringField()
    total = AmountField(asset="asset", source="total_units")
    total_units = UnitsStringField()


class BalancesSerializer(serializers.Serializer[Any]):
    as_of = InstantField(allow_null=True, help_text="The instant asked for; `null` means now.")
    data = BalanceSerializer(many=True)  # type: ignore[assignment]


class StatementQuerySerializer(PageQuerySerializer):
    asset = AssetField()
    account = OneOfField(choices=["available", "held"], default="available")


class StatementLineSerializer(serializers.Serializer[Any]):
    """Newest first; `balance` is the account's balance right after the line."""

    # Wants `asset` in its context.

    id = serializers.UUIDField()
    posted_at = InstantField()
    journal_id = serializers.UUIDField()
    kind = serializers.CharField(help_text="What was booked, such as `deposit`, `hold`, `purchase`.")
    reference = serializers.CharField()
    amount = SignedAmountField(asset="asset", source="amount_units")
    amount_units = UnitsStringField()
    balance = SignedAmountField(asset="asset", source="balance_after_units")
    balance_units = UnitsStringField(source="balance_after_units")
