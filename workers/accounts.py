"""The audit log: sealing what was committed, and walking the chain every night."""

import structlog

from apps.accounts.audit import checking, sealing
from workers.task import task

logger = structlog.get_logger(__name__)


@task("accounts.audit_seal", queue="default")
def audit_seal() -> None:
    sealing.records_seal_all()


@task("accounts.audit_check", queue="background")
def audit_check() -> None:
    """The head in the log line is the chain's anchor outside of the database: `manage.py audit verify --anchor`."""
    check = checking.check_advance()
    if check is None:
        return
    logger.info("audit log checked", number=check.position, digest=bytes(check.digest).hex())
    if check.violations:
        logger.error("audit log was tampered with", violations=check.violations[:5])
