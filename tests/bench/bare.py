"""The API benchmark's baseline, a whole Django project in one file: one view, no middleware, no database.

Served by the same command as the platform's web role (`tests.bench.api`), so that what lies between the two is what
the API itself costs.
"""

from django.http import HttpRequest, HttpResponse
from django.urls import path

SECRET_KEY = "bench"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = __name__
MIDDLEWARE: list[str] = []
USE_TZ = True
_BODY = b'{"ok":true}'


def answer(request: HttpRequest) -> HttpResponse:
    del request
    return HttpResponse(_BODY, content_type="application/json", headers={"Content-Length": str(len(_BODY))})


urlpatterns = [path("bare", answer)]
