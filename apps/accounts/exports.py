"""All that the platform knows about a person, as one file: asked for, put together by a worker, downloaded, deleted.

The file is a ZIP of one NDJSON file per section. Each app registers its sections; they are read in one snapshot of the
database and written row by row, so that memory stays the same whatever the size. It is kept in the database, in parts:
web, which hands it out, shares no disk with the worker that makes it. Parts come and go in the transaction in which the
row says so: whoever dies in between leaves nothing behind.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import count, islice
from typing import IO, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from django.core import signing
from django.db import IntegrityError, connection, transaction

from apps.accounts.audit import audit_record
from apps.accounts.me.domain import ExportState
from apps.accounts.me.models import DataExport, ExportPart
from apps.accounts.me.preferences import preferences_of
from apps.accounts.models import User
from apps.core import bulk, clock, doorbell, work
from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import Conflict, NotFound
from apps.core.failpoints import reach
from apps.mail.services import message_queue

Row = Mapping[str, Any]
KEPT = timedelta(days=7)
LINK_SECONDS = 600
PER_DAY = 5
# How many rows a section's cursor should fetch at a time, and how many are written at once.
CHUNK = 1_000
# How much of the file is in memory at a time, both when it is kept and when it is handed out.
PART_BYTES = 512 * 1_024
_SALT = "tranche.accounts.export"
_README = """All that this platform knows about you, as of the instant in manifest.json.

Each .ndjson file is one JSON document per line, oldest first where there is an order. Amounts are decimal strings.
"""

_sections: dict[str, Callable[[UUID], Iterator[Row]]] = {}


def section_register(name: str, rows: Callable[[UUID], Iterator[Row]]) -> None:
    """`rows(user_id)` gives a section's rows as JSON-ready mappings, one after the other, through a server-side cursor.

    Amounts as decimal strings (a JSON number would lose digits); no secret, nothing about anybody else.
    """
    _sections[name] = rows


def sections() -> list[str]:
    return sorted(_sections)


def export_request(*, user_id: UUID) -> DataExport:
    """Ask for an export. Raises `Conflict` while one is being made, or after `PER_DAY` in 24 hours."""
    now = clock.now()
    try:
        with transaction.atomic():
            if not User.objects.select_for_update(no_key=True).filter(pk=user_id, is_active=True).exists():
                raise NotFound
            if (
                DataExport.objects.filter(user_id=user_id, created_at__gt=now - timedelta(days=1)).count()
                >= PER_DAY
            ):
                raise Conflict("too_many_exports", f"At most {PER_DAY} exports a day.")
            # One that was given up makes room; its dead letter ends with it.
            given_up = DataExport.objects.filter(
                user_id=user_id, state=ExportState.QUEUED, buried_at__isnull=False
            )
            given_up.update(state=ExportState.DELETED)
            row = DataExport.objects.create(user_id=user_id, created_at=now, run_after=now)
            audit_record(
                actor=user_id,
                action="export.requested",
                target_type="export",
                target_id=row.pk,
                before=None,
                after={"state": row.state},
            )
            doorbell.ring(BUILD.name)
    except IntegrityError as error:
        raise Conflict("export_under_way", "An export is being made already.") from error
    return row


def export_page(*, user_id: UUID, query: PageQuery) -> Page[DataExport]:
    """A person's exports, the newest first. Index: accounts_export_listing."""
    return keyset_page(DataExport.objects.filter(user_id=user_id), query=query)


def export_get(*, user_id: UUID, export_id: UUID) -> DataExport:
    """Raises `NotFound`, also for somebody else's."""
    row = DataExport.objects.filter(pk=export_id, user_id=user_id).first()
    if row is None:
        raise NotFound
    return row


def link_sign(*, export: DataExport) -> str:
    """What lets whoever has it download this file for `LINK_SECONDS`."""
    return signing.dumps(str(export.pk), salt=_SALT)


def export_open(
    *, export_id: UUID, signature: str, request: Any = None
) -> tuple[DataExport, Iterator[bytes]]:
    """The file behind a signed link, written down in the audit log.

    Raises `NotFound` for a link that is forged, too old or for another export, and for a file that is gone.
    """
    try:
        signed = signing.loads(signature, salt=_SALT, max_age=LINK_SECONDS)
    except signing.BadSignature as error:
        raise NotFound from error
    row = DataExport.objects.filter(pk=export_id, user__is_active=True, state=ExportState.READY).first()
    if row is None or signed != str(export_id) or row.expires_at is None or row.expires_at <= clock.now():
        raise NotFound
    with transaction.atomic():
        audit_record(
            actor=row.user_id,
            action="export.downloaded",
            target_type="export",
            target_id=row.pk,
            before=None,
            after=None,
            request=request,
        )
    return row, _parts(row)


def _parts(row: DataExport) -> Iterator[bytes]:
    """Raises `ExportPart.DoesNotExist` when the file is deleted meanwhile: cut off, never a shorter one."""
    left = row.size_bytes or 0
    for number in count():
        if left <= 0:
            return
        part = bytes(ExportPart.objects.values_list("content", flat=True).get(export=row, number=number))
        left -= len(part)
        yield part


def export_build(claim: work.Claim[DataExport]) -> None:
    """The step of `accounts.export`: put the file together, then keep it and say that it is there, at once."""
    with claim.locked() as rows:
        row = next((one for one in rows if one.state == ExportState.QUEUED), None)
    if row is None:
        return
    with tempfile.TemporaryFile(suffix=".zip") as place:
        counts = archive_write(place, user_id=row.user_id)
        size = place.tell()
        place.seek(0)
        digest = hashlib.file_digest(place, "sha256").hexdigest()
        place.seek(0)
        reach("accounts.export.written")
        with claim.locked() as held:
            if not any(one.state == ExportState.QUEUED for one in held):
                return  # Taken over, or the account was closed meanwhile: their file, or none, is the one that counts.
            for number in count():
                if not (content := place.read(PART_BYTES)):
                    break
                ExportPart.objects.create(export=row, number=number, content=content)
            reach("accounts.export.kept")
            now = clock.now()
            until = now + KEPT
            # One UPDATE: the second of a row in one transaction asks for its person (the foreign key), whom the closing
            # of an account holds while it waits for the row.
            bulk.update(
                "accounts_dataexport",
                [row.pk],
                {"rows": ("jsonb", [json.dumps(counts)])},
                constants={
                    "state": ExportState.READY.value,
                    "size_bytes": size,
                    "sha256": digest,
                    "ready_at": now,
                    "expires_at": until,
                    "run_after": until,
                },
                also=work.STEPPED,
            )
            claim.stepped.add(row.pk)
            _ready_tell(row, until)
    reach("accounts.export.ready")


def _ready_tell(row: DataExport, until: datetime) -> None:
    """Asked for, so sent whatever is muted; no link: who reads the mail still has to sign in."""
    wanted = preferences_of([row.user_id])[row.user_id]
    message_queue(
        to=User.objects.values_list("email", flat=True).get(pk=row.user_id),
        template="export_ready",
        context={
            "days": KEPT.days,
            "expires_at": f"{until.astimezone(ZoneInfo(wanted.zone)):%d %B %Y, %H:%M %Z}",
        },
        key=f"export_ready:{row.pk}",
        essential=True,
        language=wanted.language,
    )


def archive_write(place: IO[bytes], *, user_id: UUID) -> dict[str, int]:
    """Write the ZIP to `place`; returns how many rows each section has. One read-only snapshot of the database."""
    counts: dict[str, int] = {}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            archive.writestr("README.txt", _README)
            for name in sections():
                with archive.open(f"{name}.ndjson", "w", force_zip64=True) as lines:
                    counts[name] = _lines_write(lines, iter(_sections[name](user_id)))
            manifest = {"user_id": str(user_id), "at": clock.now().isoformat(), "rows": counts}
            archive.writestr("manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return counts


def _lines_write(lines: IO[bytes], rows: Iterator[Row]) -> int:
    count = 0
    while chunk := list(islice(rows, CHUNK)):
        lines.write(b"".join(map(_line, chunk)))
        count += len(chunk)
    return count


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(row, option=_OPTIONS, default=str)
    except TypeError:  # an integer of more than 64 bits, somewhere in a record
        return json.dumps(row, default=str).encode() + b"\n"


_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z


def exports_expire(rows: list[DataExport]) -> None:
    """The step of `accounts.export_delete`, due when the export expires."""
    _delete(rows, actor="accounts.export_delete")


def exports_end(*, user_id: UUID) -> None:
    """No export outlives its account. Call inside the transaction that closes it."""
    # Waits for whoever is keeping a file just now: their parts are seen below.
    rows = DataExport.objects.select_for_update().filter(user_id=user_id).exclude(state=ExportState.DELETED)
    _delete(list(rows.order_by("pk")), actor=user_id)


def _delete(rows: list[DataExport], *, actor: UUID | str) -> None:
    """The file goes, and its row says so, in one UPDATE as in `export_build`. `rows` are locked."""
    ids = [row.pk for row in rows]
    ExportPart.objects.filter(export_id__in=ids).delete()
    constants = {"state": ExportState.DELETED.value}
    bulk.update("accounts_dataexport", ids, {}, constants=constants, also=work.STEPPED)
    for row in rows:
        audit_record(
            actor=actor,
            action="export.deleted",
            target_type="export",
            target_id=row.pk,
            before={"state": row.state},
            after={"state": ExportState.DELETED},
        )


# Above a task's hard limit: a builder is dead for sure before another takes its row over.
_LEASE_SECONDS = 150.0

BUILD: work.Work[DataExport] = work.register(
    work.Work(
        name="accounts.export",
        model=DataExport,
        states=("queued",),
        perform=export_build,
        chunk=1,
        lease_seconds=_LEASE_SECONDS,
        max_attempts=5,
        backoff_seconds=5.0,
    )
)
DELETE: work.Work[DataExport] = work.register(
    work.Work(
        name="accounts.export_delete", model=DataExport, states=("ready",), advance=exports_expire, chunk=50
    )
)
