from django.db import models


class SignInMark(models.Model):
    """One count or one used code of `apps.accounts.signin.counts`; worthless after `expires_at`."""

    key = models.CharField(primary_key=True, max_length=200)
    value = models.JSONField()
    expires_at = models.DateTimeField()

    class Meta:
        app_label = "accounts"
        indexes = [models.Index(fields=["expires_at"], name="accounts_signinmark_expiry")]

    def __str__(self) -> str:
        return self.key
