"""Ending politely when the system asks for it: SIGTERM, SIGINT and their kin, while Qt's loop runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from PySide6.QtCore import QObject, QSocketNotifier

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_INTERRUPTED = 130


class EndingSignals(QObject):
    """Calls `end` in Qt's loop at the first such signal; a second one ends the process at once.

    Python runs its handlers between bytecodes only, and none are run while Qt waits: the signal's number is also
    written to a socket (`signal.set_wakeup_fd`), which wakes the loop on every system.
    """

    def __init__(self, end: Callable[[], object], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._end = end
        self._asked = False
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._before: dict[int, Any] = {}
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, self._caught)
        self._notifier = QSocketNotifier(self._read.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._woken)

    def close(self) -> None:
        """Put everything back as it was; may be called twice."""
        if not self._before:
            return
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        self._read.close()
        self._write.close()

    def _caught(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            os._exit(_INTERRUPTED)  # loses nothing: what was not settled is taken up again by the next start
        self._asked = True

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._read.recv(64)
        if self._asked:
            self._end()
