from django.apps import AppConfig


class WithdrawalsConfig(AppConfig):
    name = "apps.withdrawals"
    label = "withdrawals"
