"""Passwords that were in a breach are refused, also with a little something at the end."""

import re
from pathlib import Path
from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError

LIST = Path(__file__).with_name("breached.txt.gz")
# "Sunshine2024!": the first thing that is tried is a known password with digits and signs behind it.
_ENDING = re.compile(r"[\W\d_]{1,4}$")


class BreachedPasswordValidator(CommonPasswordValidator):
    """Looks a password up in the committed list (bin/breached_passwords.py), whatever its case. Nothing leaves here."""

    def __init__(self) -> None:
        super().__init__(password_list_path=LIST)

    def validate(self, password: str, user: Any = None) -> None:
        del user
        text = password.lower().strip()
        # All four lengths: the ending that is left out may be part of the known password ("abc123" + "4!").
        tails = len(found.group()) if (found := _ENDING.search(text)) else 0
        if any(text[: len(text) - taken] in self.passwords for taken in range(tails + 1)):
            raise ValidationError(self.get_error_message(), code="password_breached")

    def get_error_message(self) -> str:
        return "This password was in a breach, or is one with little added to it."

    def get_help_text(self) -> str:
        return "Passwords that were in a breach are refused."
