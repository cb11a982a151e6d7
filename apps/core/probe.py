"""The no-op kind of work: shows that the engine runs, and what it costs (`make bench`)."""

from apps.core import bulk
from apps.core.models import WorkProbe
from apps.core.work import STEPPED, Work, register


def probes_close(probes: list[WorkProbe]) -> None:
    bulk.update(
        "core_workprobe",
        [probe.pk for probe in probes],
        {},
        constants={"state": "closed"},
        also=f"{STEPPED}, passes = passes + 1",
    )


PROBE = register(Work("core.probe", WorkProbe, ("open",), advance=probes_close, chunk=2_000))
