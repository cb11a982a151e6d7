"""The triggers that every partition of `ledger_entry` needs of its own."""


def partition_triggers(partition: str) -> list[str]:
    """SQL for a new partition.

    Row triggers are cloned from the parent by PostgreSQL; statement triggers are not, and a statement that
    names a partition fires that partition's only: without these, an INSERT into it would go unchecked.
    """
    return [
        f"""
        CREATE TRIGGER ledger_entry_apply AFTER INSERT ON {partition}
            REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_apply()
        """,
        f"""
        CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON {partition}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change()
        """,
    ]
