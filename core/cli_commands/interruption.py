"""Ctrl-C and its kin as a flag, so that what is on its way can be settled."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from core.cli_commands.speaking import INTERRUPTED


class Interruption:
    """SIGINT and SIGTERM as a flag, while it is entered. A second one ends the process at once.

    That loses nothing: what was not settled is taken up again by the next run.

    Parameters
    ----------
    then : Callable[[], object] | None
        Called at the first one, in the main thread.
    """

    def __init__(self, then: Callable[[], object] | None = None) -> None:
        self._then = then
        self.asked = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked.is_set():
            os._exit(INTERRUPTED)
        self.asked.set()
        if self._then is not None:
            self._then()
