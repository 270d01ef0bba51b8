"""A message bus with the services that keep a computer awake, as far as they are asked for that."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Self

from jeepney import (
    DBus,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_return,
)
from jeepney.io.blocking import open_dbus_connection

from tests.support.processes import Child
from tests.support.servers import required_program
from tests.support.waiting import wait_for

LOGIND = "org.freedesktop.login1"
GNOME = "org.gnome.SessionManager"
OTHERS = "org.freedesktop.PowerManagement"


class PowerBus:
    """One bus that is the system's and the session's at once, with these services on it.

    Attributes
    ----------
    address : str
    asked : list[tuple[str, tuple[object, ...]]]
        The services that were asked, with what they were given.
    """

    def __init__(self, folder: Path, services: tuple[str, ...]) -> None:
        self._folder = folder
        self._services = services
        self.asked: list[tuple[str, tuple[object, ...]]] = []
        self._pipes: list[int] = []  # our ends of what logind has given away
        self._giving: int | None = None
        self._askers: set[str] = set()

    def __enter__(self) -> Self:
        self._bus = Child([required_program("dbus-daemon"), "--session", "--nofork", "--print-address"], self._folder)
        self.address: str = wait_for(lambda: self._bus.stdout().strip(), what="the bus")
        self._connection = open_dbus_connection(self.address, enable_fds=True)
        for name in self._services:
            assert self._connection.send_and_get_reply(DBus().RequestName(name)).body == (1,)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._bus.close()
        self._thread.join(10.0)
        self._connection.close()
        for pipe in self._pipes:
            os.close(pipe)

    @property
    def held(self) -> int:
        """How many inhibitors of logind and of the session are held now."""
        return sum(map(_is_open, self._pipes)) + sum(map(self._is_there, list(self._askers)))

    def _is_there(self, asker: str) -> bool:
        with open_dbus_connection(self.address) as connection:
            return bool(connection.send_and_get_reply(DBus().NameHasOwner(asker)).body[0])

    def _serve(self) -> None:
        try:
            while True:
                call = self._connection.receive()
                if call.header.message_type is MessageType.method_call:
                    self._connection.send(self._answer(call))
                    if self._giving is not None:  # the asker has one of its own by now
                        os.close(self._giving)
                        self._giving = None
        except (OSError, EOFError):
            return  # the bus has ended

    def _answer(self, call: Message) -> Message:
        fields = call.header.fields
        service = fields[HeaderFields.interface].removesuffix(".Manager").removesuffix(".Inhibit")
        if fields[HeaderFields.member] != "Inhibit":
            return new_error(call, "org.freedesktop.DBus.Error.UnknownMethod")
        self.asked.append((service, call.body))
        if service != LOGIND:
            self._askers.add(fields[HeaderFields.sender])
            return new_method_return(call, "u", (len(self.asked),))
        ours, self._giving = os.pipe()
        self._pipes.append(ours)
        os.set_blocking(ours, False)
        return new_method_return(call, "h", (self._giving,))


def _is_open(pipe: int) -> bool:
    """Whether anybody holds the other end."""
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return True
