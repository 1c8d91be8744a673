from django.urls import path

from . import prepare, views

urlpatterns = [
    path("api/jwt/totp/verify/", views.VerifyChallenge.as_view()),
    path("api/totp/create/", views.CreateTotp.as_view()),
    path("api/totp/status/", views.Status.as_view()),
    path("bench/prepare/", prepare.prepare),
]
