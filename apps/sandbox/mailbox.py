"""Mail outside the platform: a server that takes what is sent to it by SMTP, and people's mailboxes.

Neither knows the platform's database. A mailbox is a Maildir, which any mail program reads.
"""

import logging
import mailbox
import re
import threading
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiosmtpd.controller import Controller

from apps.sandbox.runtime.errors import SandboxError
from apps.sandbox.runtime.ports import HOST, port_pick

# A line per command of every conversation.
logging.getLogger("mail.log").setLevel(logging.WARNING)

_CODE = re.compile(r"^ +(\d{6})\s*$", re.MULTILINE)
_CODE_SECONDS = 120.0
_LOOK_SECONDS = 0.05


class MailServer:
    """Takes every mail on a loopback port of its own and puts it into the mailbox of whom it is for."""

    def __init__(self, directory: Path) -> None:
        port = port_pick()
        self.url = f"smtp://{HOST}:{port}"
        self._controller = Controller(_Delivery(directory), hostname=HOST, port=port)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        """Also before a start."""
        self._controller.stop(no_assert=True)


class _Delivery:
    """What aiosmtpd calls for a mail that has arrived whole; it is on disk when 250 is said."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - its name for it
        for address in envelope.rcpt_tos:
            _maildir(self._directory, address).add(envelope.content)
        return "250 OK"


class Mailbox:
    """One person's mails, each read once. `mails` are those that were read, in no order."""

    def __init__(self, directory: Path, address: str) -> None:
        self._maildir = _maildir(directory, address)
        self._seen: set[str] = set()
        self.mails: list[EmailMessage] = []
        self.codes_read = 0

    def read(self) -> list[EmailMessage]:
        """What has arrived since the last time."""
        fresh = [key for key in self._maildir.iterkeys() if key not in self._seen]
        found = [message_from_bytes(self._maildir.get_bytes(key), policy=policy.default) for key in fresh]
        self._seen.update(fresh)
        self.mails += found
        return found

    def code(self) -> str:
        """The six digits of a mail not read yet, which is waited for. Raises `SandboxError` when none comes."""
        pause, deadline = threading.Event(), time.monotonic() + _CODE_SECONDS
        while time.monotonic() < deadline:
            codes = [found[1] for mail in self.read() if (found := _CODE.search(_text(mail)))]
            if codes:
                self.codes_read += 1
                return codes[-1]
            pause.wait(_LOOK_SECONDS)
        raise SandboxError(f"no code arrived by mail within {_CODE_SECONDS:.0f} s")


def _maildir(directory: Path, address: str) -> "mailbox.Maildir":
    directory.mkdir(parents=True, exist_ok=True)
    return mailbox.Maildir(directory / quote(address.lower(), safe="@+"), create=True)


def _text(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    return "" if part is None else str(part.get_content())
