from django.apps import AppConfig


class LaunchConfig(AppConfig):
    name = "apps.launch"
    label = "launch"

    def ready(self) -> None:
        from apps.accounts import signup_gate
        from apps.launch import closing, invariants, kinds, metrics  # noqa: F401 — importing registers them
        from apps.launch.gate import LaunchGate

        signup_gate.install(LaunchGate())
