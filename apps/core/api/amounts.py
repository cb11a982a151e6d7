"""Amounts at the door: decimal strings outside, base units inside, never a float (design.md, idea 1)."""

import re

from apps.core.fields import UINT256_MAX

AMOUNT_PATTERN = r"^(0|[1-9][0-9]{0,77})(\.[0-9]{1,36})?$"
_FORM = re.compile(AMOUNT_PATTERN.removeprefix("^").removesuffix("$"), re.ASCII)


class AmountError(ValueError):
    """Not an amount of this asset. `code` is what the API's error entry carries."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def amount_form_check(text: object) -> str:
    """`text` when it is a plain decimal string; raises `AmountError` for numbers, signs, exponents."""
    if not isinstance(text, str):
        raise AmountError("not_a_string", 'An amount is a decimal string, such as "12.5".')
    if text.startswith("-"):
        raise AmountError("negative", "An amount is not negative.")
    if not _FORM.fullmatch(text):
        raise AmountError("invalid_amount", 'An amount is a plain decimal string, such as "12.5".')
    return text


def amount_parse(text: object, *, decimals: int) -> int:
    """Base units of a decimal string. Refuses more places than the asset has, and more than 2^256-1 units."""
    whole, _, fraction = amount_form_check(text).partition(".")
    if len(fraction) > decimals:
        raise AmountError("too_many_decimals", f"This asset has {decimals} decimal places.")
    units = int(whole + fraction.ljust(decimals, "0"))
    if units > UINT256_MAX:
        raise AmountError("too_large", "An amount is at most 2^256-1 base units.")
    return units


def amount_format(units: int, *, decimals: int) -> str:
    """The shortest decimal string of `units`: no exponent, no trailing zeros; may be negative."""
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:].rstrip("0")) if decimals else (digits, "")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
