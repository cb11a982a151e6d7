"""Who did what to what, from where, before and after: append-only, and chained so that tampering shows.

A record is written in the transaction of the change that it tells of (`audit_record`). A sealer then takes what was
committed, in some order, numbers it without gaps, and writes beside each number the SHA-256 over the seal before
and the record. docs/decisions/0013-how-the-audit-log-is-sealed.md says why it is done after the commit.
"""

from apps.accounts.audit.recording import audit_record

__all__ = ["audit_record"]
