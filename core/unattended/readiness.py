"""Telling systemd how the unattended engine stands (sd_notify(3)); nothing where nobody asked to be told."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import MutableMapping

_log = logging.getLogger(__name__)


class Readiness:
    """Sends datagrams to the socket that ``NOTIFY_SOCKET`` names.

    The variable is taken out of the environment: programs that are started from here have no say.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        name = (os.environ if environment is None else environment).pop("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._status = ""

    def ready(self) -> None:
        """The nodes of this computer listen, jobs are taken up."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; never with patient data."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address or sys.platform == "win32":
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.settimeout(2.0)
                out.sendto(text.encode(), self._address)
        except OSError as error:
            _log.warning("systemd can't be told %s: %s", text.partition("=")[0], error)
