"""Serializers that only answer, without DRF's cost per object and field.

DRF copies a serializer's fields for every answer and then asks each field of each object through half a dozen calls:
half of what a page of plans costs. Here the fields of a class are turned into one list of functions once. The
declaration stays DRF's, which the OpenAPI document is made from, and so does the outcome: a test compares the two.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from rest_framework import serializers
from rest_framework.utils.serializer_helpers import ReturnDict

from apps.core.api.amounts import amount_format
from apps.core.api.fields import AmountField

T = TypeVar("T")
# From an object, and the serializer that is asked for it, to what goes out.
Write = Callable[[Any, Any], Any]
# What these fields' `to_representation` comes to, without its calls. A choice goes out as its text, as it came in.
_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    serializers.CharField: str,
    serializers.ChoiceField: str,
    serializers.IntegerField: int,
    serializers.UUIDField: str,
}


class AnswerSerializer(serializers.Serializer[T]):
    # Writes objects with attributes. Refuses, when it is first used, a field that it cannot write as DRF would.
    # (No docstring: the OpenAPI document would give it to every answer that has none.)

    def to_representation(self, instance: T) -> dict[str, Any]:
        return {name: write(instance, self) for name, write in _writes(type(self))}

    @property
    def data(self) -> Any:
        return ReturnDict(self.to_representation(self.instance), serializer=self)  # type: ignore[arg-type]


@cache
def _writes(kind: type[AnswerSerializer[Any]]) -> list[tuple[str, Write]]:
    # `get_fields` copies: what is bound here belongs to nobody's answer.
    fields: Mapping[str, Any] = kind().fields
    return [(name, _write(field)) for name, field in fields.items() if not field.write_only]


def _write(field: Any) -> Write:
    if isinstance(field, serializers.SerializerMethodField):
        method = str(field.method_name)
        return lambda instance, serializer: getattr(serializer, method)(instance)
    look: Callable[[Any], Any] = _itself if field.source == "*" else attrgetter(field.source)
    if isinstance(field, AmountField):
        return _write_amount(field, look)
    if isinstance(field, AnswerSerializer):
        return _write_nested(field, look)
    if isinstance(field, serializers.ListSerializer):
        child = field.child
        if not isinstance(child, AnswerSerializer):
            raise TypeError(f"{field.field_name}: the items are no AnswerSerializer")
        write = _write_nested(child, _itself)
        return lambda instance, serializer: [write(item, serializer) for item in look(instance)]
    if isinstance(field, serializers.BaseSerializer) or field.default is not serializers.empty:
        raise TypeError(f"{field.field_name}: an AnswerSerializer cannot write this field")
    represent = _PLAIN.get(type(field), field.to_representation)

    def plain(instance: Any, _: Any) -> Any:
        value = look(instance)
        return None if value is None else represent(value)

    return plain


def _itself(instance: Any) -> Any:
    return instance


def _write_amount(field: AmountField, look: Callable[[Any], Any]) -> Write:
    """Only for an asset that the object leads to; one from the context is written by DRF's serializers."""
    if field.decimals is not None:
        raise TypeError(f"{field.field_name}: an AnswerSerializer wants the amount's asset")
    decimals_of = attrgetter(f"{field.asset_path}.decimals")

    def amount(instance: Any, _: Any) -> str | None:
        units = look(instance)
        return None if units is None else amount_format(units, decimals=decimals_of(instance))

    return amount


def _write_nested(nested: AnswerSerializer[Any], look: Callable[[Any], Any]) -> Write:
    writes = _writes(type(nested))
    mine_of = f"_nested_{nested.field_name}"

    def write(instance: Any, serializer: Any) -> Any:
        value = look(instance)
        if value is None:
            return None
        # One copy for all objects of an answer: the context is the answer's.
        mine = serializer.__dict__.get(mine_of)
        if mine is None:
            mine = serializer.__dict__[mine_of] = copy.copy(nested)
            mine._context = serializer.context
        return {name: write(value, mine) for name, write in writes}

    return write
