"""The engine's events reach the GUI thread in batches, and nothing is leaked or collected too soon."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QThread, Signal
from pytestqt.qtbot import QtBot

from core.model.errors import LedgerError
from core.model.events import EngineChanged, Event, StudyChanged
from core.qt import EngineThread, EventBridge
from gui.background import Operation
from tests.gui.hospital import some_rows
from tests.gui.patient_bot import LONG_MS
from tests.support.waiting import PATIENCE


class _Emitter(QObject):
    fired = Signal(bool)


def test_signals_leave_the_reference_count_of_true_alone(qtbot: QtBot) -> None:
    """PySide6 6.12.0 on Python 3.11 loses one with each emission, and aborts after some thousands."""
    emitter = _Emitter()
    seen: list[bool] = []
    emitter.fired.connect(seen.append)
    emitter.fired.emit(True)
    seen.clear()
    lost = []
    for _ in range(5):  # other threads take and give references, too
        before = sys.getrefcount(True)
        for _ in range(50):
            emitter.fired.emit(True)
        seen.clear()
        lost.append(abs(sys.getrefcount(True) - before))
    assert min(lost) < 10


def test_a_hundred_thousand_events_come_in_few_batches_in_order(qtbot: QtBot) -> None:
    bridge = EventBridge()
    batches: list[list[Event]] = []
    bridge.batch.connect(batches.append)
    row = some_rows(1)[0]
    event = StudyChanged(row)

    def post() -> None:
        for number in range(25_000):
            bridge.post(event if number else EngineChanged(True, float(number), 0, 0))

    threads = [threading.Thread(target=post) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    qtbot.waitUntil(lambda: sum(len(b) for b in batches) == 100_000)
    for thread in threads:
        thread.join()
    assert len(batches) < 10 + (time.monotonic() - began) / 0.04, "one each 50 ms"
    assert all(batches)


class _Engine:
    attached = False

    def __init__(self) -> None:
        self.stopped_on: QThread | None = None
        self.timeout: float | None = -1.0

    def stop(self, timeout: float | None = None) -> None:
        self.stopped_on, self.timeout = QThread.currentThread(), timeout


def test_the_engine_starts_and_stops_on_its_thread(qtbot: QtBot) -> None:
    engine = _Engine()
    started: list[QThread] = []

    def start(_post: Callable[[Event], None]) -> _Engine:
        started.append(QThread.currentThread())
        return engine

    thread = EngineThread(start, lambda _event: None)
    with qtbot.waitSignal(thread.ready):
        thread.start()
    gc.collect()
    with qtbot.waitSignal(thread.finished):
        thread.request_stop(7.0)
    assert thread.wait(LONG_MS)
    assert started[0] is not QThread.currentThread()
    assert engine.timeout == 7.0


def test_an_engine_that_can_t_start_says_why(qtbot: QtBot) -> None:
    def start(_post: Callable[[Event], None]) -> _Engine:
        raise LedgerError("The ledger is locked.", "Close the other program.")

    thread = EngineThread(start, lambda _event: None)
    with qtbot.waitSignal(thread.failed) as failed:
        thread.start()
    assert thread.wait(LONG_MS)
    assert "locked" in str(failed.args[0])


def test_an_operation_outlives_its_page_and_calls_nobody_then(qtbot: QtBot) -> None:
    go, done = threading.Event(), threading.Event()
    called: list[int] = []

    def work() -> int:
        go.wait(PATIENCE)
        done.set()
        return 1

    page = QObject()
    Operation(page, work).success(called.append).run()
    page.deleteLater()
    destroyed: list[bool] = []
    page.destroyed.connect(lambda: destroyed.append(True))
    qtbot.waitUntil(lambda: bool(destroyed))
    del page
    gc.collect()
    go.set()
    assert done.wait(PATIENCE)
    follower: list[int] = []
    owner = QObject()
    Operation(owner, lambda: 2).success(follower.append).run()
    qtbot.waitUntil(lambda: follower == [2])
    assert called == []


def test_progress_and_failure_come_on_the_gui_thread(qtbot: QtBot) -> None:
    owner = QObject()
    seen: list[object] = []

    def work() -> None:
        operation.report("half")
        raise ValueError("broken")

    def note(value: object) -> None:
        assert QThread.currentThread() is owner.thread()
        seen.append(str(value))

    operation = Operation(owner, work).progress(note).failure(note)
    operation.run()
    qtbot.waitUntil(lambda: len(seen) == 2)
    assert seen == ["half", "broken"]
