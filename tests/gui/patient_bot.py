"""pytest-qt's hands, which wait for as long as a loaded machine may need."""

# ruff: noqa: N802  (Qt's names)

from __future__ import annotations

from typing import Any

from pytestqt.qtbot import QtBot

from tests.support.waiting import PATIENCE

LONG_MS = round(PATIENCE * 1000)


class PatientBot(QtBot):
    """What is waited for here comes: a limit of five seconds only says how fast the machine is.

    Whatever limit a test names, these wait for `PATIENCE`; `wait` and `assertNotEmitted` wait as told.
    """

    def waitUntil(self, callback: Any, *, timeout: int = LONG_MS) -> None:
        super().waitUntil(callback, timeout=max(timeout, LONG_MS))

    def waitSignal(self, signal: Any, *, timeout: int = LONG_MS, **options: Any) -> Any:
        if options.get("raising") is not False:  # else it is assertNotEmitted, or a test that awaits nothing
            timeout = max(timeout, LONG_MS)
        return super().waitSignal(signal, timeout=timeout, **options)

    def waitSignals(self, signals: Any, *, timeout: int = LONG_MS, **options: Any) -> Any:
        return super().waitSignals(signals, timeout=max(timeout, LONG_MS), **options)

    def waitExposed(self, widget: Any, *, timeout: int = LONG_MS) -> Any:
        return super().waitExposed(widget, timeout=max(timeout, LONG_MS))

    def waitActive(self, widget: Any, *, timeout: int = LONG_MS) -> Any:
        return super().waitActive(widget, timeout=max(timeout, LONG_MS))
