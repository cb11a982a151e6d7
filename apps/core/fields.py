"""Columns for what a chain speaks: 256-bit integers, addresses, hashes. Money never becomes a float."""

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.expressions import Combinable
from django.utils.functional import cached_property

UINT256_MAX = (1 << 256) - 1

_address = RegexValidator(r"\A0x[0-9a-f]{40}\Z", "An address is 0x and 40 lower-case hex digits.")
_hash = RegexValidator(r"\A0x[0-9a-f]{64}\Z", "A hash is 0x and 64 lower-case hex digits.")


class UnitsField(models.DecimalField):  # type: ignore[type-arg]
    """Base units as NUMERIC(78,0), read and written as Python `int`; signed, so that entries can be negative."""

    description = "Integer of up to 78 digits"

    # Read by django-stubs: what may be assigned, and what is read.
    _pyi_private_set_type: "int | Combinable"
    _pyi_private_get_type: int  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"] = 78
        kwargs["decimal_places"] = 0
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    @cached_property
    def validators(self) -> list[Any]:
        """Django's own for decimals take no `int`."""
        most = 10**78 - 1
        own: list[Any] = self._validators  # type: ignore[attr-defined]
        return [*own, MinValueValidator(-most), MaxValueValidator(most)]

    def formfield(self, *args: Any, **kwargs: Any) -> Any:
        """What somebody types in is an amount: not below zero."""
        return super().formfield(*args, **{"min_value": 0, **kwargs})

    def from_db_value(self, value: Decimal | None, *_: Any) -> int | None:
        return None if value is None else int(value)

    def to_python(self, value: Any) -> int | None:
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float):
            raise TypeError("money is an integer of base units, never a float")
        parsed = super().to_python(value)
        if parsed is not None and parsed != int(parsed):
            raise ValidationError("An amount is a whole number of base units.", code="invalid")
        return None if parsed is None else int(parsed)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if isinstance(value, float):
            raise TypeError("money is an integer of base units, never a float")
        return value if hasattr(value, "resolve_expression") or value is None else Decimal(value)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if hasattr(value, "as_sql"):
            return value
        return self.get_db_prep_value(value, connection)

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None or hasattr(value, "resolve_expression") else self.to_python(value)


class Uint256Field(UnitsField):
    """An unsigned 256-bit integer; the model adds its own CHECK where a smaller range applies."""


class AddressField(models.CharField):  # type: ignore[type-arg]
    """An EVM address, lower case; EIP-55 checksums are a matter of display."""

    default_validators = [_address]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_length"] = 42
        super().__init__(*args, **kwargs)


class HashField(models.CharField):  # type: ignore[type-arg]
    """A 32-byte hash in lower-case hex."""

    default_validators = [_hash]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_length"] = 66
        super().__init__(*args, **kwargs)
