"""What django-totp does for a request, in as little code: Django REST Framework, simplejwt, pyotp, qrcode, Fernet.

Rate limiting is off. As there, no used step is stored, a challenge is not burnt, and failures are not counted.
"""

import pyotp
import qrcode
import qrcode.image.svg
from cryptography.fernet import Fernet
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.db import transaction
from rest_framework import exceptions, permissions, serializers
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.tokens import RefreshToken

from .models import BackupCode, Totp

SALT = "totp-challenge"
CHALLENGE_SECONDS = 3600
fernet = Fernet(settings.TOTP_ENCRYPTION_KEY)


class ChallengeSerializer(serializers.Serializer):
    totp_challenge_token = serializers.CharField()
    otp_code = serializers.CharField(required=False)
    backup_code = serializers.CharField(required=False)


class VerifyChallenge(APIView):
    authentication_classes = []
    permission_classes = [permissions.AllowAny]

    def post(self, request):
        body = ChallengeSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        try:
            user_id = signing.loads(given["totp_challenge_token"], salt=SALT, max_age=CHALLENGE_SECONDS)
            user = get_user_model().objects.get(pk=user_id, is_active=True)
            totp = Totp.objects.get(user=user)
        except (signing.BadSignature, get_user_model().DoesNotExist, Totp.DoesNotExist):
            raise exceptions.AuthenticationFailed()
        good = use_backup_code(totp, given["backup_code"]) if "backup_code" in given else verify(totp, given["otp_code"])
        if not good:
            raise exceptions.ValidationError({"code": ["Invalid code."]})
        refresh = RefreshToken.for_user(user)
        return Response({"access": str(refresh.access_token), "refresh": str(refresh)})


class CreateTotp(APIView):
    permission_classes = [permissions.IsAuthenticated]

    def post(self, request):
        secret = pyotp.random_base32()
        Totp.objects.update_or_create(
            user=request.user, defaults={"secret_key": fernet.encrypt(secret.encode()).decode()}
        )
        uri = pyotp.TOTP(secret).provisioning_uri(name=request.user.email, issuer_name="Bench")
        image = qrcode.make(uri, image_factory=qrcode.image.svg.SvgPathImage)
        return Response({"svg": image.to_string(encoding="unicode")}, status=201)


class Status(APIView):
    permission_classes = [permissions.IsAuthenticated]

    def get(self, request):
        remaining = BackupCode.objects.filter(totp__user=request.user, is_used=False).count()
        enabled = BackupCode.objects.filter(totp__user=request.user).exists()
        return Response({"is_totp_enabled": enabled, "backup_codes_remaining": remaining})


def verify(totp, code):
    secret = fernet.decrypt(totp.secret_key.encode()).decode()
    return pyotp.TOTP(secret).verify(code, valid_window=1)


def use_backup_code(totp, code):
    with transaction.atomic():
        for backup_code in BackupCode.objects.select_for_update().filter(totp=totp, is_used=False):
            if fernet.decrypt(backup_code.code.encode()).decode() == code:
                backup_code.is_used = True
                backup_code.save(update_fields=["is_used"])
                return True
    return False
