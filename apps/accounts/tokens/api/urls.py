from django.urls import path

from apps.accounts.tokens.api.views import RefreshView, SessionsView, SessionView, SignOutView

urlpatterns = [
    path("auth/refresh", RefreshView.as_view(), name="auth-refresh"),
    path("auth/sign-out", SignOutView.as_view(), name="auth-sign-out"),
    path("sessions", SessionsView.as_view(), name="sessions"),
    path("sessions/<uuid:session_id>", SessionView.as_view(), name="session"),
]
