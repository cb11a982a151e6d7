"""What makes a table of the log append-only, for its migration and for each new partition."""


def partition_guards(partition: str) -> list[str]:
    """SQL for a new partition. PostgreSQL clones row triggers to it, but neither those of statements nor privileges."""
    trigger = f"CREATE TRIGGER accounts_audit_no_truncate BEFORE TRUNCATE ON {partition}"
    return [
        f"{trigger} FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change()",
        f"REVOKE UPDATE, DELETE, TRUNCATE ON {partition} FROM PUBLIC, CURRENT_USER",
    ]
