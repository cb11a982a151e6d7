"""The live stream's ASGI application: `python -m config.roles stream`."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
django.setup()

from apps.stream.service import StreamService  # noqa: E402

application = StreamService(urlconf="config.stream_urls")
