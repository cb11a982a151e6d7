"""The only way money moves: accounts are opened, locked in id order, and journals posted whole.

Everything here is set-based: a call makes a fixed number of statements, whatever the number of journals. The
database checks everything again (migration 0002); the checks made here give better errors, and earlier.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError, connection, transaction

from apps.core import bulk, clock
from apps.core.errors import NotFound
from apps.core.ids import uuid7_hexes, uuid7_many, uuid7_time
from apps.ledger import domain, posting
from apps.ledger.domain import AccountKey, AccountKind, JournalDraft, Posting, PostResult
from apps.ledger.errors import AlreadyReversed, InsufficientFunds, JournalInvalid, ReferenceReused
from apps.ledger.models import NIL, Entry, Journal

# Bounds the memory of one statement on both sides; more drafts take more statements of the same transaction.
JOURNALS_PER_STATEMENT = 5_000

_FIND = """
SELECT key.position, account.id
FROM unnest(%s::text[], %s::uuid[], %s::uuid[], %s::text[]) WITH ORDINALITY
    AS key (kind, asset_id, owner_id, ref, position)
JOIN ledger_account AS account ON account.owner_id = key.owner_id AND account.asset_id = key.asset_id
    AND account.kind = key.kind AND account.ref = key.ref
UNION ALL
SELECT key.position, account.id
FROM unnest(%s::text[], %s::uuid[], %s::uuid[], %s::text[]) WITH ORDINALITY
    AS key (kind, asset_id, owner_id, ref, position)
JOIN ledger_account AS account ON account.owner_id IS NULL AND account.asset_id = key.asset_id
    AND account.kind = key.kind AND account.ref = key.ref
WHERE key.owner_id IS NULL
"""

_FIND_PERSONAL = """
SELECT owner_id, id FROM ledger_account
WHERE owner_id = ANY (%s::uuid[]) AND asset_id = %s AND kind = %s AND ref = ''
"""

_OPEN = """
INSERT INTO ledger_account (id, kind, asset_id, owner_id, ref, created_at)
SELECT id, kind, asset_id, owner_id, ref, %s
FROM unnest(%s::uuid[], %s::text[], %s::uuid[], %s::uuid[], %s::text[])
    AS fresh (id, kind, asset_id, owner_id, ref)
ON CONFLICT DO NOTHING
"""

# Not FOR UPDATE: that would also block foreign keys pointing at an account, which read nothing that changes.
_LOCK = """
SELECT id, asset_id, kind, balance_units, last_entry_id FROM ledger_account
WHERE id = ANY (%s::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

# LATERAL with LIMIT keeps the planner from reading the whole table for a thousand references.
_KNOWN = """
SELECT wanted.reference, journal.fingerprint FROM unnest(%s::text[]) AS wanted (reference)
CROSS JOIN LATERAL (
    SELECT fingerprint FROM ledger_journal WHERE ledger_journal.reference = wanted.reference LIMIT 1
) AS journal
"""


@dataclass(slots=True)
class _Locked:
    """An account under our lock. Inside this module accounts go by the integer of their id: cheaper to hash."""

    asset_hex: str
    credit_normal: bool
    balance_units: int


class _Prepared(NamedTuple):
    draft: JournalDraft
    net: dict[int, int]
    metadata_json: str
    fingerprint: bytes


def accounts_open(*, keys: Iterable[AccountKey]) -> dict[AccountKey, UUID]:
    """Ids of the accounts of `keys`, opening those that do not exist. One statement when all do, else three.

    Raises `ValueError` when a person's account has no owner or a platform's has one.
    """
    wanted = sorted(set(keys), key=lambda key: (str(key.owner_id), str(key.asset_id), key.kind, key.ref))
    for key in wanted:
        if (key.owner_id is not None) != (AccountKind(key.kind) in domain.PERSONAL):
            raise ValueError(
                f"an account of kind {key.kind} {'needs an' if key.owner_id is None else 'has no'} owner"
            )
    found = _accounts_find(wanted)
    missing = [key for key in wanted if key not in found]
    if missing:
        with connection.cursor() as cursor:
            # In key order, so that callers that open the same accounts wait in one direction.
            columns = [bulk.array(column) for column in _key_columns(missing)]
            cursor.execute(_OPEN, [clock.now(), bulk.uuids(uuid7_many(len(missing))), *columns])
        found |= _accounts_find(missing)
    return found


def accounts_open_personal(
    *, kind: AccountKind, asset_id: UUID, owner_ids: Collection[UUID]
) -> dict[UUID, UUID]:
    """Account ids by owner, for thousands of people's accounts of one kind and asset: `accounts_open` without keys.

    One statement when all exist. Raises `ValueError` for a kind that is no person's.
    """
    if kind not in domain.PERSONAL:
        raise ValueError(f"an account of kind {kind} has no owner")
    with connection.cursor() as cursor:
        cursor.execute(_FIND_PERSONAL, [bulk.uuids(owner_ids), asset_id, str(kind)])
        found: dict[UUID, UUID] = dict(cursor.fetchall())
    missing = [AccountKey(kind, asset_id, owner_id) for owner_id in owner_ids if owner_id not in found]
    if missing:
        found |= {
            key.owner_id: account for key, account in accounts_open(keys=missing).items() if key.owner_id
        }
    return found


def balances_lock(*, account_ids: Collection[UUID]) -> dict[UUID, int]:
    """Balances in units by account, locked in id order until the transaction ends; unknown ids are left out.

    Call it once, with every account that the transaction will touch, before deciding anything on a balance: a
    second call may lock in the opposite order of somebody else's, which PostgreSQL ends as a deadlock.
    Raises `TransactionManagementError` outside a transaction.
    """
    locked, _ = _accounts_lock(account_id.int for account_id in account_ids)
    return {UUID(int=number): account.balance_units for number, account in locked.items()}


def journals_post(*, drafts: Sequence[JournalDraft]) -> PostResult:
    """Post all of `drafts`, in their order, or none.

    Idempotent: a draft whose reference was posted with the same content is skipped and counted as repeated.
    Locks the accounts of all drafts in id order first. Raises `JournalInvalid` (does not balance, unknown
    account, empty), `ReferenceReused` (known reference, other content), `InsufficientFunds` (naming account
    and journal: the first that would take an account past zero at its turn, repeated ones aside).
    """
    try:
        with transaction.atomic():
            return _journals_post(drafts)
    except IntegrityError as error:
        violated: Any = getattr(error.__cause__, "diag", None)
        if violated is not None and violated.constraint_name == "ledger_journal_reference":
            # Committed since we looked, by somebody whom the accounts' locks did not make wait: other content.
            raise ReferenceReused(str(violated.message_detail)) from error
        raise


def journal_reverse(*, journal_id: UUID, reason: str) -> UUID:
    """Post the exact opposite of a journal, once; returns the reversal's id, on every further call the same.

    Raises `NotFound`, `AlreadyReversed` when the journal is a reversal itself, `InsufficientFunds` when what
    it gave was spent since.
    """
    with transaction.atomic():
        original = Journal.objects.filter(id=journal_id).first()
        if original is None:
            raise NotFound("No such journal.")
        if original.reverses_id is not None:
            raise AlreadyReversed("A reversal is not reversed: post what is meant instead.")
        entries = list(Entry.objects.filter(journal_id=journal_id).order_by("id"))
        # Two reversals of one journal meet at its accounts' locks; the second then sees the first's journal.
        balances_lock(account_ids={entry.account_id for entry in entries})
        existing = Journal.objects.filter(reverses_id=journal_id).values_list("id", flat=True).first()
        if existing is not None:
            return existing
        draft = JournalDraft(
            kind="reversal",
            reference=f"reversal:{journal_id}",
            postings=[Posting(entry.account_id, -entry.amount_units) for entry in entries],
            metadata={"reason": reason, "kind": original.kind, "reference": original.reference},
            reverses_id=journal_id,
        )
        _journals_post([draft])
        return Journal.objects.values_list("id", flat=True).get(reverses_id=journal_id)


def _journals_post(drafts: Sequence[JournalDraft]) -> PostResult:
    prepared, repeated = _prepare(drafts)
    if not prepared:
        return PostResult(0, repeated)
    locked, newest = _accounts_lock({number for item in prepared for number in item.net})
    # Looked up under the locks: whoever posts the same content holds them or has committed.
    fresh = _drop_known(prepared)
    repeated += len(prepared) - len(fresh)
    if not fresh:
        return PostResult(0, repeated)
    _check_balanced(fresh, locked)

    # Ids carry the time of posting and must rise per account even when this machine's clock is behind.
    posted_at = max(clock.now(), uuid7_time(newest) + timedelta(milliseconds=1))
    ids = uuid7_hexes(sum(1 + len(item.net) for item in fresh), posted_at)
    with connection.cursor() as cursor:
        for start in range(0, len(fresh), JOURNALS_PER_STATEMENT):
            chunk = fresh[start : start + JOURNALS_PER_STATEMENT]
            posting.copy_in(cursor, *_rows(chunk, locked, ids, posted_at.isoformat()))
    return PostResult(len(fresh), repeated)


def _rows(
    chunk: Sequence[_Prepared], locked: Mapping[int, _Locked], ids: Iterator[str], posted_at: str
) -> tuple[list[str], list[str]]:
    """Journal and entry rows; moves the balances in `locked` on, journal by journal, so that each fits at its turn."""
    journals: list[str] = []
    entries: list[str] = []
    for draft, net, metadata_json, fingerprint in chunk:
        journal_id = next(ids)
        journals.append(posting.journal_row(journal_id, draft, fingerprint, metadata_json, posted_at))
        for number, units in net.items():
            account = locked[number]
            balance = account.balance_units + units
            if balance < 0 if account.credit_normal else balance > 0:
                raise InsufficientFunds(
                    account_id=UUID(int=number),
                    balance_units=account.balance_units,
                    amount_units=units,
                    reference=draft.reference,
                )
            account.balance_units = balance
            entries.append(
                f"{next(ids)}\t{journal_id}\t{number:032x}\t{account.asset_hex}\t{units}\t{balance}\n"
            )
    return journals, entries


def _prepare(drafts: Sequence[JournalDraft]) -> tuple[list[_Prepared], int]:
    """Net, fingerprinted drafts, each reference once, and how many were said twice."""
    prepared: dict[str, _Prepared] = {}
    repeated = 0
    for draft in drafts:
        posting.draft_check(draft)
        net = domain.postings_net(draft.postings)
        if not net:
            raise JournalInvalid(f"journal {draft.reference!r} moves nothing")
        metadata_json = domain.metadata_encode(draft.metadata)
        fingerprint = domain.content_fingerprint(
            kind=draft.kind,
            net=net,
            metadata_json=metadata_json,
            reverses=str(draft.reverses_id) if draft.reverses_id else "",
        )
        before = prepared.get(draft.reference)
        if before is None:
            prepared[draft.reference] = _Prepared(draft, net, metadata_json, fingerprint)
        elif before.fingerprint == fingerprint:
            repeated += 1
        else:
            raise ReferenceReused(draft.reference)
    return list(prepared.values()), repeated


def _drop_known(prepared: list[_Prepared]) -> list[_Prepared]:
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN, [bulk.array([item.draft.reference for item in prepared])])
        known = {reference: bytes(fingerprint) for reference, fingerprint in cursor.fetchall()}
    if not known:
        return prepared
    for item in prepared:
        if known.get(item.draft.reference, item.fingerprint) != item.fingerprint:
            raise ReferenceReused(item.draft.reference)
    return [item for item in prepared if item.draft.reference not in known]


def _check_balanced(prepared: list[_Prepared], locked: Mapping[int, _Locked]) -> None:
    for item in prepared:
        sums: dict[str, int] = {}
        for number, units in item.net.items():
            account = locked.get(number)
            if account is None:
                raise JournalInvalid(
                    f"journal {item.draft.reference!r} names unknown account {UUID(int=number)}"
                )
            sums[account.asset_hex] = sums.get(account.asset_hex, 0) + units
        if any(sums.values()):
            raise JournalInvalid(f"journal {item.draft.reference!r} does not sum to zero per asset")


def _accounts_lock(numbers: Iterable[int]) -> tuple[dict[int, _Locked], UUID]:
    """The accounts, locked, and the newest entry id among them."""
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("balances are locked inside a transaction")
    locked: dict[int, _Locked] = {}
    newest = NIL
    with connection.cursor() as cursor:
        # An array as one text: the driver would wrap, check and quote each of thousands of ids.
        cursor.execute(_LOCK, ["{" + ",".join([f"{number:032x}" for number in numbers]) + "}"])
        for account_id, asset_id, kind, balance, last_entry_id in cursor.fetchall():
            locked[account_id.int] = _Locked(asset_id.hex, kind not in domain.DEBIT_NORMAL, int(balance))
            if last_entry_id > newest:
                newest = last_entry_id
    return locked, newest


def _key_columns(keys: Sequence[AccountKey]) -> list[list[Any]]:
    return [
        [str(key.kind) for key in keys],
        [key.asset_id for key in keys],
        [key.owner_id for key in keys],
        [key.ref for key in keys],
    ]


def _accounts_find(keys: Sequence[AccountKey]) -> dict[AccountKey, UUID]:
    if not keys:
        return {}
    columns = [bulk.array(column) for column in _key_columns(keys)]
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [*columns, *columns])
        return {keys[position - 1]: account_id for position, account_id in cursor.fetchall()}
