"""Progress on the taskbar: what the button is told as jobs go on, and that Windows takes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from core.app import App
from core.model.events import EngineChanged, JobChanged
from core.model.job import JobState
from core.model.outcome import Counts
from core.model.views import StateFilter
from gui.session import Session
from gui.taskbar import STEPS, ButtonState, Taskbar, button_of, identify, progress

MOVES = EngineChanged(running=True, speed=1e6, unconfirmed_studies=1, followers=0)
RESTS = replace(MOVES, speed=0.0, idle_since=datetime(2026, 11, 21, tzinfo=UTC))
HALF = Counts(planned=40, sending=10, verified=50, bytes_total=1000, bytes_done=500)
DONE = Counts(verified=100, bytes_total=1000, bytes_done=1000)


def job(counts: Counts, number: int = 1, *, state: JobState = JobState.RUNNING, planning: bool = False) -> JobChanged:
    return JobChanged(number, "Night", "clone", state, counts, 1, planning)


class Shown:
    """A button that remembers what it was told last."""

    def __init__(self) -> None:
        self.now: tuple[ButtonState, int] = (ButtonState.IDLE, 0)
        self.times = 0

    def show(self, state: ButtonState, steps: int) -> None:
        self.now = (state, steps)
        self.times += 1


class Bar:
    def __init__(self, session: Session, window: QWidget) -> None:
        self.button = Shown()
        self.session = session
        self.window = window
        self.taskbar = Taskbar(session, window, self.button)

    def attention(self, count: int) -> None:
        self.taskbar.take_counts({StateFilter.ATTENTION: count, StateFilter.ALL: 10})

    def activated(self) -> None:
        QCoreApplication.sendEvent(self.window, QEvent(QEvent.Type.WindowActivate))


@pytest.fixture
def bar(tmp_path: Path, qtbot: QtBot) -> Iterator[Bar]:
    app = App.open(tmp_path / "home")
    session = Session(app)
    window = QWidget()
    qtbot.addWidget(window)
    try:
        yield Bar(session, window)
    finally:
        session.wait()
        app.close()


def test_it_follows_a_job_and_is_cleared_when_nothing_moves(bar: Bar) -> None:
    bar.session.engine.emit(MOVES)
    assert bar.button.now == (ButtonState.UNKNOWN, 0)
    bar.session.jobs.emit([job(HALF, planning=True)])
    assert bar.button.now == (ButtonState.UNKNOWN, 0)
    bar.session.jobs.emit([job(HALF)])
    assert bar.button.now == (ButtonState.WORKING, STEPS // 2)
    bar.session.jobs.emit([job(DONE, state=JobState.FINISHED)])
    bar.session.engine.emit(RESTS)
    assert bar.button.now == (ButtonState.IDLE, 0)


def test_jobs_that_have_nothing_open_do_not_count(bar: Bar) -> None:
    bar.session.engine.emit(MOVES)
    bar.session.jobs.emit([job(HALF), job(DONE, 2)])
    assert bar.button.now == (ButtonState.WORKING, STEPS // 2)


def test_it_is_red_when_something_needs_a_person_until_the_window_is_looked_at(bar: Bar) -> None:
    bar.session.engine.emit(MOVES)
    bar.session.jobs.emit([job(HALF)])
    bar.attention(2)
    assert bar.button.now == (ButtonState.NEEDS_PERSON, STEPS // 2)
    bar.session.jobs.emit([job(DONE, state=JobState.FINISHED)])
    bar.session.engine.emit(RESTS)
    assert bar.button.now == (ButtonState.NEEDS_PERSON, STEPS)
    bar.activated()
    assert bar.button.now == (ButtonState.IDLE, 0)
    bar.attention(2)  # the same ones, counted again
    assert bar.button.now == (ButtonState.IDLE, 0)
    bar.attention(3)
    assert bar.button.now == (ButtonState.NEEDS_PERSON, STEPS)
    bar.attention(0)
    assert bar.button.now == (ButtonState.IDLE, 0)
    bar.attention(1)
    assert bar.button.now == (ButtonState.NEEDS_PERSON, STEPS)


def test_an_engine_that_ends_leaves_nothing_shown(bar: Bar) -> None:
    bar.session.engine.emit(MOVES)
    bar.session.jobs.emit([job(HALF)])
    bar.session.engine.emit(replace(MOVES, running=False))
    assert bar.button.now == (ButtonState.IDLE, 0)


def test_a_button_at_rest_is_left_alone(bar: Bar) -> None:
    for _ in range(3):
        bar.session.engine.emit(RESTS)
        bar.attention(0)
    assert bar.button.times == 0


@pytest.mark.parametrize(
    ("counts", "steps"),
    [
        ([], 0),
        ([Counts()], 0),
        ([HALF], 500),
        ([HALF, DONE], 750),
        ([Counts(planned=3, sending=1, verified=4)], 500),
        ([replace(DONE, bytes_done=2000)], 1000),
    ],
)
def test_progress_goes_by_bytes_and_else_by_images(counts: list[Counts], steps: int) -> None:
    assert progress(counts) == steps


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has such a taskbar")
def test_elsewhere_there_is_no_button(qtbot: QtBot) -> None:
    identify()
    window = QWidget()
    qtbot.addWidget(window)
    assert button_of(window) is None


@pytest.mark.skipif(sys.platform != "win32", reason="of Windows alone")
class TestWindows:
    def test_the_process_has_its_identity(self) -> None:
        import ctypes

        from gui.taskbar import APP_ID

        identify()
        found = ctypes.c_wchar_p()
        result = ctypes.windll.shell32.GetCurrentProcessExplicitAppUserModelID(ctypes.byref(found))
        if result & 0xFFFFFFFF == 0x80004001:
            pytest.skip("Wine takes the identity and doesn't tell it")
        assert (result, found.value) == (0, APP_ID)
        ctypes.windll.ole32.CoTaskMemFree(found)

    def test_the_shell_takes_what_the_button_shows(self, qapp: object) -> None:
        """With a window of the system's, one for messages: there may be no screen."""
        import ctypes

        from gui.taskbar import taskbar_button

        create = ctypes.windll.user32.CreateWindowExW
        create.restype = ctypes.c_void_p
        create.argtypes = [ctypes.c_ulong, ctypes.c_wchar_p, ctypes.c_wchar_p, ctypes.c_ulong, *[ctypes.c_int] * 4,
                           *[ctypes.c_void_p] * 4]  # fmt: skip
        window = create(0, "STATIC", "a test", 0, 0, 0, 10, 10, ctypes.c_void_p(-3), None, None, None)
        assert window
        try:
            button = taskbar_button(window)
            assert button is not None
            for state in ButtonState:
                button.show(state, STEPS // 2)
                assert button.result == 0
            del button
        finally:
            ctypes.windll.user32.DestroyWindow(ctypes.c_void_p(window))
