"""Django's PostgreSQL with metrics, and a health check that costs no round trip."""
