"""The tables of django-totp: one authenticator a user, its backup codes one a row, both under Fernet."""

from django.conf import settings
from django.db import models


class Totp(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    secret_key = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)


class BackupCode(models.Model):
    totp = models.ForeignKey(Totp, on_delete=models.CASCADE, related_name="backup_codes")
    code = models.CharField(max_length=255)
    is_used = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
