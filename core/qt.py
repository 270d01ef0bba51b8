"""The engine on a thread of Qt's, and its events handed to the window in batches; the only Qt in core."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from PySide6.QtCore import QObject, QThread, QTimer, Signal

from core.model.events import Event

BATCH_MS = 50

_log = logging.getLogger(__name__)


class EngineBinding(Protocol):
    """What `App.engine` returns, as far as a thread of Qt's needs it."""

    @property
    def attached(self) -> bool: ...

    def stop(self, timeout: float | None = None) -> None: ...


class EventBridge(QObject):
    """Takes frozen events from any thread and hands them to the GUI thread as one list every 50 ms.

    Attributes
    ----------
    batch : Signal(object)
        A `list[Event]`, in the order of `post`, never empty.
    """

    batch = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._events: deque[Event] = deque()
        self._timer = QTimer(self)
        self._timer.setInterval(BATCH_MS)
        self._timer.timeout.connect(self.flush)
        self._timer.start()

    def post(self, event: Event) -> None:
        """Keep an event for the next batch; may be called from any thread."""
        self._events.append(event)  # deque.append is atomic: no lock, no wait for the engine

    def flush(self) -> None:
        """Hand on what has gathered; called by the timer, and once more when the window closes."""
        if not self._events:
            return
        # Only as many as there are now: an engine that never pauses must not keep the GUI thread in here.
        taken = [self._events.popleft() for _ in range(len(self._events))]
        self.batch.emit(taken)

    def close(self) -> None:
        self._timer.stop()
        self.flush()


class EngineThread(QThread):
    """Starts the engine, lives as long as it does, and stops it in stages.

    Parameters
    ----------
    start_engine : Callable[[Callable[[Event], None]], EngineBinding]
        `App.engine`; called on this thread, because opening may wait for the ledger.
    post : Callable[[Event], None]
        Where the engine's events go (`EventBridge.post`).

    Attributes
    ----------
    ready : Signal(object)
        The binding, once the engine runs (or is attached to another process's engine).
    failed : Signal(object)
        The exception with which it could not start or stop.
    """

    ready = Signal(object)
    failed = Signal(object)

    def __init__(
        self,
        start_engine: Callable[[Callable[[Event], None]], EngineBinding],
        post: Callable[[Event], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("engine")
        self._start_engine = start_engine
        self._post = post
        self._stop = threading.Event()
        self._timeout: float | None = None

    def run(self) -> None:
        """The life of the engine: start, wait for `request_stop`, settle what is in flight."""
        try:
            engine = self._start_engine(self._post)
            self.ready.emit(engine)
            self._stop.wait()
            engine.stop(self._timeout)
        except Exception as error:  # noqa: BLE001 - whatever it was, a person is told by `failed`
            _log.exception("the engine's thread ended")
            self.failed.emit(error)

    def request_stop(self, timeout: float | None = None) -> None:
        """Ask the engine to settle and stop; `finished` follows. Returns at once.

        Parameters
        ----------
        timeout : float | None
            Seconds that instances in flight are given.
        """
        self._timeout = timeout
        self._stop.set()


def latest(events: Iterable[Event], kind: type[Event]) -> list[Event]:
    """The events of one kind, in order."""
    return [e for e in events if isinstance(e, kind)]
