"""Which live streams are open, and in which process: what the limit per person counts and operators look at."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from apps.core.ids import uuid7


class StreamProcess(models.Model):
    """A process that serves streams. It says every few seconds that it lives; one that does not is dead."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "stream processes"

    def __str__(self) -> str:
        return self.name


class OpenStream(models.Model):
    """One connection. No foreign key to its process: a stream may be admitted before its process was first noted."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    process_id = models.UUIDField(db_index=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    opened_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)
