"""Mail: what is essential, the rest, and codes past their time. Short budgets: a slow provider holds nobody up."""

from apps.core import work
from apps.mail import kinds
from apps.mail.forgetting import mail_forget
from apps.mail.sending import secrets_blank
from workers.task import task

_BUDGET_SECONDS = 5.0


@task("mail.send", queue="mail")
def mail_send() -> None:
    work.drain(kinds.SEND_WORK, budget_seconds=_BUDGET_SECONDS)


@task("mail.send_bulk", queue="mail")
def mail_send_bulk() -> None:
    work.drain(kinds.SEND_BULK_WORK, budget_seconds=_BUDGET_SECONDS)


@task("mail.blank", queue="mail")
def mail_blank() -> None:
    secrets_blank()


@task("mail.forget", queue="mail")
def mail_forgotten() -> None:
    """What is older than it is kept, a limited number of rows at a time."""
    mail_forget()
