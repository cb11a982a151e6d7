"""What people ask for that takes a while: exports of their data, invitations."""

from apps.accounts import exports
from apps.core import work
from apps.launch import kinds
from apps.launch.waitlist import waitlist_purge
from workers.task import task


@task("accounts.export", queue="background")
def exports_build() -> None:
    work.drain(exports.BUILD)


@task("accounts.export_delete", queue="background")
def exports_expire() -> None:
    work.drain(exports.DELETE)


@task("launch.invite", queue="background")
def invitations_send() -> None:
    work.drain(kinds.INVITE)


@task("launch.waitlist_purge", queue="background")
def waitlist_purged() -> None:
    waitlist_purge()
