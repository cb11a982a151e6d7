"""The sandbox: embedded PostgreSQL, Valkey and an EVM node, for development and tests. Imported by nobody."""
