"""How soon the window is on the screen, and how long its event loop is ever blocked."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

ON_SCREEN_GOAL = 1.5  # seconds
STALL_GOAL = 0.050  # seconds
STUDIES = 10_000
EVENTS_A_SECOND = 1_000
TICK_MS = 2

_CHILD = """
import os, sys, time
from PySide6.QtCore import QEvent, QObject, QTimer
from gui.app import main, prepare
application = prepare()
class Watch(QObject):
    def eventFilter(self, watched, event):
        if event.type() is QEvent.Type.Expose and watched.isWindowType() and watched.isExposed():
            application.removeEventFilter(self)
            print(time.time() - float(sys.argv[1]), flush=True)
            QTimer.singleShot(200, end)
        return False
def end():
    for window in application.topLevelWidgets():
        if window.objectName() == "main":
            window.quit()
watch = Watch()
application.installEventFilter(watch)
sys.exit(main())
"""


@dataclass(frozen=True)
class WindowFigures:
    """Seconds until the window was exposed (cold and warm), and the longest stall with the events that came."""

    first_start: float
    on_screen: float
    longest_stall: float
    events: int
    seconds: float


def measure(*, seconds: float = 10.0, environment: dict[str, str] | None = None) -> WindowFigures:
    """Measure both; `environment` names a screen (``DISPLAY``), else none is needed."""
    with tempfile.TemporaryDirectory(prefix="ferry-bench-") as scratch:
        home = Path(scratch) / "home"
        starts = [_start(home, environment) for _ in range(4)]
        stall, events, took = _stall(Path(scratch) / "full", seconds)
    return WindowFigures(starts[0], sorted(starts[1:])[1], stall, events, took)


def _start(home: Path, environment: dict[str, str] | None) -> float:
    """Seconds from the start of a process to the window's first exposure."""
    variables = {**os.environ, "QT_QPA_PLATFORM": "offscreen", **(environment or {}), "DICOM_FERRY_HOME": str(home)}
    command = [sys.executable, "-c", _CHILD, str(time.time())]
    result = subprocess.run(
        command, env=variables, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=True
    )
    return float(result.stdout.split()[0])


def _stall(home: Path, seconds: float) -> tuple[float, int, float]:
    """The longest time between two turns of the event loop, beyond its tick, under 1,000 changes a second."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtCore import Qt, QTimer
    from PySide6.QtTest import QTest

    from core.model.events import StudyChanged, TransferRow
    from core.model.outcome import Counts, StudyState
    from gui.app import prepare
    from gui.collector import Collector
    from gui.main_window import MainWindow
    from gui.session import Session
    from tests.gui.hospital import open_hospital

    prepare()
    app = open_hospital(home, more=STUDIES)
    session = Session(app)
    window = MainWindow(session)
    window.show()
    window.go("transfers")
    page = window.transfers
    page.model.load_all()
    limit = time.monotonic() + 30
    while not page.model.complete and time.monotonic() < limit:
        QTest.qWait(20)
    assert page.model.rowCount() >= STUDIES, page.model.rowCount()
    collector = Collector()
    collector.start()  # as the program does once its window is shown
    page.table.selectRow(0)
    QTest.qWait(500)
    rows: list[TransferRow] = [page.model.record(at) for at in range(page.model.rowCount())]
    longest, last = 0.0, time.perf_counter()

    def tick() -> None:
        nonlocal longest, last
        now = time.perf_counter()
        longest = max(longest, now - last - TICK_MS / 1000)
        last = now

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(tick)
    posted = 0
    stop = threading.Event()

    def engine() -> None:
        """Rows go through their states as under a running engine, some of them in sight."""
        nonlocal posted
        began = time.perf_counter()
        while not stop.is_set():
            due = int((time.perf_counter() - began) * EVENTS_A_SECOND)
            while posted < due:
                at = posted % 40 if posted % 2 else (posted * 37) % len(rows)
                done = posted % 8
                state = StudyState.CONFIRMED if done == 7 else StudyState.SENDING
                counts = Counts(verified=done + 1, planned=7 - done)
                row = replace(rows[at], counts=counts, state=state, speed=5e6 + posted, seconds_left=float(done))
                session._bridge.post(StudyChanged(row))
                posted += 1
            stop.wait(0.005)

    thread = threading.Thread(target=engine)
    last = time.perf_counter()
    timer.start(TICK_MS)
    thread.start()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        QTest.qWait(50)
    took = time.perf_counter() - began
    stop.set()
    thread.join()
    timer.stop()
    collector.stop()
    window._ended = True
    window.close()
    session.wait()
    app.close()
    return longest, posted, took


def report(figures: WindowFigures) -> str:
    """The figures as lines for a terminal."""
    on_screen = "reached" if figures.on_screen <= ON_SCREEN_GOAL else "missed"
    stall = "reached" if figures.longest_stall <= STALL_GOAL else "missed"
    rate = figures.events / figures.seconds
    under = f"{STUDIES:,} studies, {rate:,.0f} events/s for {figures.seconds:.0f} s"
    return "\n".join(
        (
            f"window on screen    {figures.on_screen:5.2f} s   (first start ever {figures.first_start:.2f} s; "
            f"goal {ON_SCREEN_GOAL} s: {on_screen})",
            f"longest stall       {figures.longest_stall * 1000:5.0f} ms  ({under}; "
            f"goal {STALL_GOAL * 1000:.0f} ms: {stall})",
        )
    )


def main() -> int:
    print(report(measure()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
