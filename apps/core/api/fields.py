"""Serializer fields that take what they say and nothing near it: no "5" for 5, no naive instant."""

import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core.api.amounts import (
    AMOUNT_PATTERN,
    AmountError,
    amount_form_check,
    amount_format,
    amount_parse,
)
from apps.core.models import Asset

# RFC 3339, section 5.6, with the offset required and no leap second.
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
# Names that tzdata ships and that are no place.
_NO_ZONES = {"localtime", "posixrules", "Factory"}


class TextField(serializers.CharField):
    """A string, and only a string. `max_length` has no default: say it."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class WholeNumberField(serializers.IntegerField):
    """A JSON integer. Say `min_value` and `max_value`."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return int(data)


class QueryNumberField(serializers.IntegerField):
    """An integer in a query string, digits only."""

    def to_internal_value(self, data: Any) -> int:
        if not (isinstance(data, str) and re.fullmatch(r"-?[0-9]{1,9}", data, re.ASCII)):
            self.fail("invalid")
        return int(data)


class FlagField(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return bool(data)


class IdField(serializers.UUIDField):
    """A UUID in its canonical text form."""

    def to_internal_value(self, data: Any) -> Any:
        if not (
            isinstance(data, str)
            and re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", data)
        ):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class OneOfField(serializers.ChoiceField):
    """One of a few strings."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


class InstantField(serializers.DateTimeField):
    """An RFC 3339 instant with its offset; an aware `datetime` in UTC inside, `…Z` outside."""

    default_error_messages = {
        "no_offset": "An instant is RFC 3339 with an offset, such as 2026-03-01T09:00:00Z."
    }

    def to_internal_value(self, value: Any) -> datetime:
        if not (isinstance(value, str) and _INSTANT.fullmatch(value)):
            self.fail("no_offset")
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("no_offset")

    def to_representation(self, value: datetime) -> str:
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return utc.isoformat()[:-6] + "Z"


@cache
def timezone_names() -> frozenset[str]:
    """The IANA zones of this installation."""
    return frozenset(zoneinfo.available_timezones() - _NO_ZONES)


@extend_schema_field({"type": "string", "maxLength": 64, "examples": ["Europe/Berlin"]})
class TimeZoneField(serializers.Field):  # type: ignore[type-arg]
    """An IANA zone by name. Membership is looked up, the name never becomes a path."""

    default_error_messages = {"unknown_timezone": "Not the name of an IANA time zone."}

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in timezone_names():
            self.fail("unknown_timezone")
        return str(data)

    def to_representation(self, value: Any) -> str:
        return str(value)


@extend_schema_field({"type": "string", "maxLength": 24, "examples": ["USDC"]})
class AssetField(serializers.Field):  # type: ignore[type-arg]
    """An asset by its code: an `Asset` inside (one query), its code outside."""

    default_error_messages = {"unknown_asset": "There is no such asset."}

    def to_internal_value(self, data: Any) -> Asset:
        # PostgreSQL refuses NUL in a text; no code has anything unprintable.
        readable = isinstance(data, str) and len(data) <= 24 and data.isprintable()
        asset = Asset.objects.filter(code=data).first() if readable else None
        if asset is None:
            self.fail("unknown_asset")
        return asset

    def to_representation(self, value: Asset) -> str:
        return value.code


@dataclass(frozen=True)
class Amount:
    """Units together with the decimals that they are written with."""

    units: int
    decimals: int


@extend_schema_field({"type": "string", "pattern": AMOUNT_PATTERN, "maxLength": 116, "examples": ["12.5"]})
class AmountField(serializers.Field):  # type: ignore[type-arg]
    """An amount as a decimal string outside and base units (`int`) inside.

    `asset` says what it counts: a dotted path from the validated values, then from the serializer's context
    (`"asset"`, `"market.sold_asset"`), or pass `decimals`. The text's form is checked with the field, its
    places once the other fields are known: `StrictSerializer` calls `finish`. Going out, the path starts at
    the object; a value may also be an `Amount`. Zero is refused unless `allow_zero`.
    """

    def __init__(
        self, *, asset: str = "", decimals: int | None = None, allow_zero: bool = False, **kwargs: Any
    ) -> None:
        if bool(asset) == (decimals is not None):
            raise TypeError("AmountField wants either asset or decimals")
        self.asset_path, self.decimals, self.allow_zero = asset, decimals, allow_zero
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        try:
            text = amount_form_check(data)
            return text if self.decimals is None else self._units(text, self.decimals)
        except AmountError as error:
            raise serializers.ValidationError(str(error), code=error.code) from error

    def finish(self, text: str, attrs: Mapping[str, Any]) -> int:
        """Base units, now that the other values are known; raises `ValidationError`."""
        asset = _follow(attrs, self.asset_path)
        if asset is None:
            asset = _follow(self.context, self.asset_path)
        if asset is None:
            raise LookupError(f"{self.field_name}: no asset at {self.asset_path!r}")
        try:
            return self._units(text, asset.decimals)
        except AmountError as error:
            raise serializers.ValidationError(str(error), code=error.code) from error

    def _units(self, text: str, decimals: int) -> int:
        units = amount_parse(text, decimals=decimals)
        if units == 0 and not self.allow_zero:
            raise AmountError("zero", "An amount is more than zero.")
        return units

    def get_attribute(self, instance: Any) -> Any:
        units = super().get_attribute(instance)
        if units is None or isinstance(units, Amount):
            return units
        if self.decimals is not None:
            return Amount(units, self.decimals)
        asset = _follow(instance, self.asset_path)
        return Amount(
            units, (asset if asset is not None else _follow(self.context, self.asset_path)).decimals
        )

    def to_representation(self, value: Amount) -> str:
        return amount_format(value.units, decimals=value.decimals)


def _follow(start: Any, path: str) -> Any:
    """The value at a dotted path through mappings and attributes; `None` where it ends early."""
    for name in path.split("."):
        start = start.get(name) if isinstance(start, Mapping) else getattr(start, name, None)
        if start is None:
            return None
    return start
