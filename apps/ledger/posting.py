"""Writing journals and entries by COPY: two statements for any number of rows, each one string.

COPY needs less of both sides than INSERT with arrays: no parameter is parsed, quoted or cast one by one.
"""

from collections.abc import Sequence
from typing import Any

from django.db import connection

from apps.ledger.domain import KIND_MAX_LENGTH, REFERENCE_MAX_LENGTH, JournalDraft
from apps.ledger.errors import JournalInvalid

_JOURNALS = """
COPY ledger_journal (id, kind, reference, fingerprint, reverses_id, metadata, posted_at) FROM STDIN
"""
_ENTRIES = """
COPY ledger_entry (id, journal_id, account_id, asset_id, amount_units, balance_after_units) FROM STDIN
"""


def draft_check(draft: JournalDraft) -> None:
    """Raise `JournalInvalid` unless kind and reference are short, non-empty and printable.

    Printable means that no tab or line break can end a COPY field early; backslashes are doubled.
    """
    for value, longest in ((draft.kind, KIND_MAX_LENGTH), (draft.reference, REFERENCE_MAX_LENGTH)):
        if not (0 < len(value) <= longest and value.isprintable()):
            raise JournalInvalid(f"{value!r} is not 1 to {longest} printable characters")


def journal_row(
    journal_id: str, draft: JournalDraft, fingerprint: bytes, metadata_json: str, posted_at: str
) -> str:
    """One line in COPY's text format."""
    reverses = draft.reverses_id.hex if draft.reverses_id else "\\N"
    return (
        f"{journal_id}\t{_escape(draft.kind)}\t{_escape(draft.reference)}\t\\\\x{fingerprint.hex()}"
        f"\t{reverses}\t{_escape(metadata_json)}\t{posted_at}\n"
    )


def copy_in(cursor: Any, journals: Sequence[str], entries: Sequence[str]) -> None:
    """Write the rows. Journals first: entries are accepted for journals of this transaction only.

    Raises Django's database errors; Django's cursor does not turn those of COPY by itself.
    """
    for statement, rows in ((_JOURNALS, journals), (_ENTRIES, entries)):
        with connection.wrap_database_errors, cursor.copy(statement) as copy:
            copy.write("".join(rows))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\") if "\\" in text else text
