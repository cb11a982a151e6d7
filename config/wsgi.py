"""The web role's entry point."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")

application = get_wsgi_application()
# What is loaded now stays: the collector need not walk it in the middle of a request.
gc.collect()
gc.freeze()
