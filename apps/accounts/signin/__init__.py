"""Signing up and in: django-allauth's headless flows behind this house's API, and what they keep in PostgreSQL."""
