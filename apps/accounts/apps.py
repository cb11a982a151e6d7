from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apps.accounts"
    label = "accounts"

    def ready(self) -> None:
        from apps.accounts import second_factor
        from apps.accounts.signin import counts, facts, models  # noqa: F401
        from apps.accounts.signin.factor import AllauthSecondFactor
        from apps.accounts.tokens import receivers  # noqa: F401

        counts.install()
        facts.connect()
        second_factor.install(AllauthSecondFactor())
