"""Users, and requests of theirs that are ready to be sent. Not measured."""

import json
import random
import secrets

import pyotp
from django.contrib.auth import get_user_model
from django.core import signing
from django.http import JsonResponse
from django.utils.crypto import get_random_string
from django.views.decorators.csrf import csrf_exempt
from rest_framework_simplejwt.tokens import RefreshToken

from .models import BackupCode, Totp
from .views import SALT, fernet

CODES = 10


@csrf_exempt
def prepare(request):
    asked = json.loads(request.body)
    return JsonResponse({"requests": WORKS[asked["work"]](asked["count"])})


def login(count):
    return [
        post("/api/jwt/totp/verify/", {"totp_challenge_token": challenge(totp), "otp_code": pyotp.TOTP(opened(totp)).now()})
        for totp in enrolled(count)
    ]


def backup(count):
    totps = enrolled(count)
    BackupCode.objects.filter(totp__in=totps).delete()
    codes = [(totp, [secrets.token_urlsafe(12) for _ in range(CODES)]) for totp in totps]
    BackupCode.objects.bulk_create(
        BackupCode(totp=totp, code=fernet.encrypt(code.encode()).decode()) for totp, own in codes for code in own
    )
    return [
        post("/api/jwt/totp/verify/", {"totp_challenge_token": challenge(totp), "backup_code": random.choice(own)})
        for totp, own in codes
    ]


def create(count):
    return [post("/api/totp/create/", {}, bearer(user)) for user in users("fresh", count)]


def status(count):
    return [
        {"method": "GET", "path": "/api/totp/status/", "headers": bearer(totp.user), "body": ""}
        for totp in enrolled(count)
    ]


WORKS = {"login": login, "backup": backup, "create": create, "status": status}


def users(kind, count):
    User = get_user_model()
    own = User.objects.filter(first_name=kind)
    missing = count - own.count()
    if missing > 0:
        names = [get_random_string(20) for _ in range(missing)]
        User.objects.bulk_create(
            User(username=name, email=f"{name}@example.com", first_name=kind, password="!") for name in names
        )
    return list(own.order_by("pk")[:count])


def enrolled(count):
    own = users("enrolled", count)
    having = set(Totp.objects.filter(user__in=own).values_list("user_id", flat=True))
    made = [
        Totp(user=user, secret_key=fernet.encrypt(pyotp.random_base32().encode()).decode())
        for user in own
        if user.pk not in having
    ]
    Totp.objects.bulk_create(made)
    totps = list(Totp.objects.filter(user__in=own).select_related("user").order_by("pk"))
    new = {totp.user_id for totp in made}
    BackupCode.objects.bulk_create(
        BackupCode(totp=totp, code=fernet.encrypt(secrets.token_urlsafe(12).encode()).decode())
        for totp in totps
        if totp.user_id in new
        for _ in range(CODES)
    )
    return totps


def opened(totp):
    return fernet.decrypt(totp.secret_key.encode()).decode()


def challenge(totp):
    return signing.dumps(totp.user_id, salt=SALT)


def bearer(user):
    return {"authorization": f"Bearer {RefreshToken.for_user(user).access_token}"}


def post(path, body, headers=None):
    return {
        "method": "POST",
        "path": path,
        "headers": {"content-type": "application/json", **(headers or {})},
        "body": json.dumps(body),
    }
