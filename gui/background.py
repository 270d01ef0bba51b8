"""A background operation in one sentence: the operation, what follows success, what follows failure, run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import shiboken6
from PySide6.QtCore import QObject, QThreadPool, QTimer, Signal

T = TypeVar("T")

_log = logging.getLogger(__name__)
_pool: QThreadPool | None = None
_running: set[QObject] = set()  # an operation must outlive its thread's work, whoever started it


def pool() -> QThreadPool:
    """Threads for reads and network calls of the window: they mostly wait, so more than there are cores."""
    global _pool
    if _pool is None:
        _pool = QThreadPool()
        _pool.setMaxThreadCount(8)
        _pool.setExpiryTimeout(20_000)
    return _pool


class Operation(QObject, Generic[T]):
    """Something that must not run on the GUI thread.

    ``Operation(page, lambda: ledger.jobs()).success(show).failure(banner.show_error).run()``

    The callables are called on the GUI thread, and only while `owner` still exists.

    Parameters
    ----------
    owner : QObject
    work : Callable[[], T]
        Runs on a thread of the pool.
    """

    _done = Signal(object)
    _failed = Signal(object)
    _progressed = Signal(object)

    def __init__(self, owner: QObject, work: Callable[[], T]) -> None:
        super().__init__()
        self._owner = owner
        self._work = work
        self._success: Callable[[T], object] | None = None
        self._failure: Callable[[Exception], object] | None = None
        self._progress: Callable[[object], object] | None = None
        self._done.connect(self._on_done)
        self._failed.connect(self._on_failed)
        self._progressed.connect(self._on_progress)

    def success(self, then: Callable[[T], object]) -> Operation[T]:
        self._success = then
        return self

    def failure(self, then: Callable[[Exception], object]) -> Operation[T]:
        self._failure = then
        return self

    def progress(self, then: Callable[[object], object]) -> Operation[T]:
        """What is called on the GUI thread for each `report` of the work."""
        self._progress = then
        return self

    def report(self, value: object) -> None:
        """Called by the work, on its thread."""
        self._progressed.emit(value)

    def run(self) -> Operation[T]:
        _running.add(self)
        pool().start(self.execute)
        return self

    def execute(self) -> None:
        """The work, on a thread of the pool."""
        try:
            result = self._work()
        except Exception as error:  # noqa: BLE001 - `_on_failed` shows it to a person
            self._failed.emit(error)
        else:
            self._done.emit(result)

    def _on_done(self, result: T) -> None:
        self._release()
        if self._success is not None and shiboken6.isValid(self._owner):
            self._success(result)

    def _on_failed(self, error: Exception) -> None:
        self._release()
        if not shiboken6.isValid(self._owner):
            _log.info("a background operation failed after its page was closed: %s", type(error).__name__)
        elif self._failure is not None:
            self._failure(error)
        else:
            _log.error("a background operation failed: %s", type(error).__name__, exc_info=error)

    def _release(self) -> None:
        # Not at once: the last reference may not go while Qt still delivers the signal to this object.
        QTimer.singleShot(0, lambda: _running.discard(self))

    def _on_progress(self, value: object) -> None:
        if self._progress is not None and shiboken6.isValid(self._owner):
            self._progress(value)


def settle(timeout_ms: int = 5000) -> bool:
    """Wait for what still runs; called once, when the program ends. False when something hangs."""
    return pool().waitForDone(timeout_ms)
