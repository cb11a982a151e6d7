"""All that the platform knows about a person, as one file: asked for, put together by a worker, downloaded, deleted.

The file is a ZIP of one NDJSON file per section. Each app registers its sections; they are read in one snapshot of the
database and written row by row, so that memory stays the same whatever the size. Its name is written down before the
file is, so that whoever dies in between leaves nothing behind that is not known.
"""

import hashlib
import json
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from django.core import signing
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import IntegrityError, connection, transaction

from apps.accounts.audit import audit_record
from apps.accounts.me.domain import ExportState
from apps.accounts.me.models import DataExport
from apps.accounts.me.preferences import preferences_of
from apps.accounts.models import User
from apps.core import clock, doorbell, work
from apps.core.api.pagination import Page, PageQuery, keyset_page
from apps.core.errors import Conflict, NotFound
from apps.core.failpoints import reach
from apps.mail.services import message_queue

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
KEPT = timedelta(days=7)
LINK_SECONDS = 600
PER_DAY = 5
# How many rows a section's cursor should fetch at a time, and how many are written at once.
CHUNK = 1_000
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


def export_open(*, export_id: UUID, signature: str, request: Any = None) -> tuple[DataExport, IO[bytes]]:
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
    try:
        opened = default_storage.open(row.file_name)
    except OSError as error:
        logger.error("export without its file", extra={"export": str(row.pk)})
        raise NotFound from error
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
    return row, opened


def export_build(claim: work.Claim[DataExport]) -> None:
    """The step of `accounts.export`: name the file, write it, then say that it is there."""
    with claim.locked() as rows:
        row = next((one for one in rows if one.state == ExportState.QUEUED), None)
        if row is None:
            return
        stale = row.file_name
        name = f"exports/{row.pk}/{claim.token}.zip"
        DataExport.objects.filter(pk=row.pk).update(file_name=name)
    reach("accounts.export.named")
    _file_delete(stale)
    with tempfile.NamedTemporaryFile(suffix=".zip") as place:
        counts = archive_write(place, user_id=row.user_id)
        size = place.tell()
        place.seek(0)
        digest = hashlib.file_digest(place, "sha256").hexdigest()
        place.seek(0)
        reach("accounts.export.written")
        default_storage.save(name, File(place))
    reach("accounts.export.saved")
    now = clock.now()
    with claim.locked() as held:
        ours = [one for one in held if one.state == ExportState.QUEUED]
        if ours:
            claim.step([row.pk])
            DataExport.objects.filter(pk=row.pk).update(
                state=ExportState.READY,
                size_bytes=size,
                sha256=digest,
                rows=counts,
                ready_at=now,
                expires_at=now + KEPT,
                run_after=now + KEPT,
            )
            _ready_tell(row, now + KEPT)
    reach("accounts.export.ready")
    if not ours:
        # Somebody took it over, or the account was closed meanwhile: their file, or none, is the one that counts.
        _file_delete(name)


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


def export_expire(claim: work.Claim[DataExport]) -> None:
    """The step of `accounts.export_delete`, due when the export expires: the file goes, then the row says so."""
    with claim.locked() as rows:
        names = {row.pk: row.file_name for row in rows if row.state == ExportState.READY}
    for pk, name in names.items():
        _file_delete(name)
        reach("accounts.export.deleted")
        with claim.locked([pk]) as rows:
            if rows:
                DataExport.objects.filter(pk=pk).update(state=ExportState.DELETED, file_name="")
                claim.step([pk])
                audit_record(
                    actor="accounts.export_delete",
                    action="export.deleted",
                    target_type="export",
                    target_id=pk,
                    before={"state": ExportState.READY},
                    after={"state": ExportState.DELETED},
                )


def exports_end(*, user_id: UUID) -> None:
    """No export outlives its account: files are deleted as soon as this transaction has committed."""
    now = clock.now()
    DataExport.objects.filter(user_id=user_id, state=ExportState.READY).update(run_after=now, expires_at=now)
    # One without a file has nothing to delete; with one, deleting is the next step.
    mine = DataExport.objects.filter(user_id=user_id, state=ExportState.QUEUED)
    mine.filter(file_name="").update(state=ExportState.DELETED)
    mine.update(
        state=ExportState.READY, size_bytes=0, ready_at=now, expires_at=now, run_after=now, buried_at=None
    )
    doorbell.ring(DELETE.name)


def _buried(rows: list[DataExport]) -> None:
    """What was given up leaves no half a file behind."""
    for row in rows:
        _file_delete(row.file_name)


def _file_delete(name: str) -> None:
    """A file that is not there is no error."""
    if not name:
        return
    default_storage.delete(name)
    try:
        folder = Path(default_storage.path(name)).parent
    except NotImplementedError:  # a storage without folders
        return
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


# Above a task's hard limit: a builder is dead for sure before another takes its row over.
_LEASE_SECONDS = 150.0

BUILD: work.Work[DataExport] = work.register(
    work.Work(
        name="accounts.export",
        model=DataExport,
        states=("queued",),
        perform=export_build,
        on_bury=_buried,
        chunk=1,
        lease_seconds=_LEASE_SECONDS,
        max_attempts=5,
        backoff_seconds=5.0,
    )
)
DELETE: work.Work[DataExport] = work.register(
    work.Work(
        name="accounts.export_delete", model=DataExport, states=("ready",), perform=export_expire, chunk=50
    )
)
