"""The garbage collector on the GUI thread's terms: short pauses, and no Qt object deleted by another thread."""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer

YOUNG_MS = 500
MIDDLE_EVERY = 8  # × YOUNG_MS
FULL_EVERY = 1200  # × YOUNG_MS: ten minutes


class Collector(QObject):
    """Collects by a timer of the GUI thread instead of whenever some thread has made enough objects.

    Two reasons. What is there for good (modules, widgets) takes 60 to 80 ms to look through, and the window
    would stand still meanwhile: it is frozen once. And a cycle that holds a QObject, collected on a thread of
    the engine, would delete that object there, which Qt doesn't allow.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._turns = 0
        self._timer = QTimer(self)
        self._timer.setInterval(YOUNG_MS)
        self._timer.timeout.connect(self._collect)

    def start(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()
        gc.unfreeze()
        gc.enable()

    def _collect(self) -> None:
        self._turns += 1
        if self._turns % FULL_EVERY == 0:
            gc.collect(2)
        elif self._turns % MIDDLE_EVERY == 0:
            gc.collect(1)
        else:
            gc.collect(0)
