from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "apps.accounts"
    label = "accounts"

    def ready(self) -> None:
        from apps.accounts import second_factor
        from apps.accounts.signin import counts, facts, models  # noqa: F401
        from apps.accounts.signin.enrolment import AllauthEnrolment
        from apps.accounts.signin.factor import AllauthSecondFactor
        from apps.accounts.tokens import receivers  # noqa: F401

        counts.install()
        facts.connect()
        second_factor.install(AllauthSecondFactor())
        second_factor.enrolment_install(AllauthEnrolment())
        from apps.accounts import invariants, roles  # noqa: F401 — importing registers the invariants
        from apps.accounts.audit.guards import partition_guards
        from apps.core import partitions

        partitions.register("accounts_auditrecord", on_create=partition_guards)
        # After the last app: by then every permission exists.
        last = [config for config in apps.get_app_configs() if config.models_module is not None][-1]
        post_migrate.connect(roles.after_migrate, sender=last, dispatch_uid="accounts.roles")
        from apps.accounts import exports, personal  # noqa: F401 — registers kinds of work and sections
        from apps.accounts.me.preferences import unsubscribed
        from apps.accounts.signin import person  # noqa: F401 — registers what closing takes, installs the facts
        from apps.mail.suppressing import unsubscribe_listen

        unsubscribe_listen(unsubscribed)
