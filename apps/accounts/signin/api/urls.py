from django.urls import path

from apps.accounts.signin.api import account_views as account
from apps.accounts.signin.api import factor_views as factors
from apps.accounts.signin.api import step_up_views as step_up
from apps.accounts.signin.api import views

urlpatterns = [
    path("auth/sign-up", views.SignUpView.as_view(), name="auth-sign-up"),
    path("auth/verify", views.VerifyView.as_view(), name="auth-verify"),
    path("auth/verify/resend", views.ResendView.as_view(), name="auth-verify-resend"),
    path("auth/sign-in", views.PasswordSignInView.as_view(), name="auth-sign-in"),
    path("auth/sign-in/factor", views.FactorView.as_view(), name="auth-factor"),
    path(
        "auth/sign-in/factor/passkey/options",
        views.FactorPasskeyOptionsView.as_view(),
        name="auth-factor-passkey-options",
    ),
    path("auth/sign-in/factor/passkey", views.FactorPasskeyView.as_view(), name="auth-factor-passkey"),
    path("auth/sign-in/passkey/options", views.PasskeyOptionsView.as_view(), name="auth-passkey-options"),
    path("auth/sign-in/passkey", views.PasskeySignInView.as_view(), name="auth-passkey"),
    path("auth/sign-in/google", views.GoogleView.as_view(), name="auth-google"),
    path("auth/flow", views.FlowView.as_view(), name="auth-flow"),
    path("auth/password/forgot", views.ForgotView.as_view(), name="auth-password-forgot"),
    path("auth/password/reset", views.ResetView.as_view(), name="auth-password-reset"),
    path("auth/password", account.PasswordView.as_view(), name="auth-password"),
    path("auth/email", account.EmailView.as_view(), name="auth-email"),
    path("auth/email/confirm", account.EmailConfirmView.as_view(), name="auth-email-confirm"),
    path("auth/email/resend", account.EmailResendView.as_view(), name="auth-email-resend"),
    path("auth/step-up", step_up.StepUpView.as_view(), name="auth-step-up"),
    path("auth/step-up/google", step_up.StepUpGoogleView.as_view(), name="auth-step-up-google"),
    path("auth/step-up/passkey", step_up.StepUpPasskeyView.as_view(), name="auth-step-up-passkey"),
    path(
        "auth/step-up/passkey/options",
        step_up.StepUpPasskeyOptionsView.as_view(),
        name="auth-step-up-passkey-options",
    ),
    path("auth/factors", factors.FactorsView.as_view(), name="auth-factors"),
    path("auth/factors/totp", factors.TotpView.as_view(), name="auth-totp"),
    path("auth/factors/totp/confirm", factors.TotpConfirmView.as_view(), name="auth-totp-confirm"),
    path("auth/factors/recovery-codes", factors.RecoveryCodesView.as_view(), name="auth-recovery-codes"),
    path("auth/passkeys", factors.PasskeysView.as_view(), name="auth-passkeys"),
    path("auth/passkeys/options", factors.PasskeyOptionsView.as_view(), name="auth-passkeys-options"),
    path("auth/passkeys/<int:passkey_id>", factors.PasskeyView.as_view(), name="auth-passkey-one"),
    path("auth/connections", account.ConnectionsView.as_view(), name="auth-connections"),
    path("auth/connections/google", account.GoogleConnectionView.as_view(), name="auth-connections-google"),
]
