"""All routes. An app that has an API is mounted here and nowhere else."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
