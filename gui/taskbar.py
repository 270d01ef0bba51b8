"""The program on the taskbar of Windows: one identity, and its progress on the button.

On Linux the desktops that show progress on their dock each do so in their own way and only for a program with a menu
entry; there, and on macOS, nothing is shown.
"""

from __future__ import annotations

import logging
import sys
from enum import IntEnum
from typing import Any, Protocol

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QWidget

from core.model.events import EngineChanged, JobChanged
from core.model.job import JobState
from core.model.outcome import Counts
from core.model.views import StateFilter
from gui.session import Session

APP_ID = "DICOMFerry.DICOMFerry"
"""AppUserModelID: never changed; the installers' shortcuts carry the same, so that a pinned one is this program."""

STEPS = 1000

_log = logging.getLogger(__name__)


class ButtonState(IntEnum):
    """What a taskbar button can show (TBPFLAG)."""

    IDLE = 0x0
    UNKNOWN = 0x1  # at work, nobody knows for how long
    WORKING = 0x2
    NEEDS_PERSON = 0x4  # red


class Button(Protocol):
    """One window's place on a taskbar."""

    def show(self, state: ButtonState, steps: int) -> None:
        """Show a state, and `steps` of `STEPS`."""


def identify() -> None:
    """Give the process its identity on the taskbar; before its first window."""
    if sys.platform == "win32":
        import ctypes

        result = ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(ctypes.c_wchar_p(APP_ID))
        if result:
            _log.info("no AppUserModelID: 0x%08x", result & 0xFFFFFFFF)


class Taskbar(QObject):
    """Shows how far all running jobs are together; red when something needs a person, until the window is looked at.

    Parameters
    ----------
    button : Button
        Of `window`.
    """

    def __init__(self, session: Session, window: QWidget, button: Button) -> None:
        super().__init__(window)
        self._button = button
        self._window = window
        self._jobs: dict[int, JobChanged] = {}
        self._moving = False
        self._troubles = 0
        self._seen_troubles = 0
        self._shown: tuple[ButtonState, int] = (ButtonState.IDLE, 0)
        session.jobs.connect(self._take_jobs)
        session.engine.connect(self._take_engine)
        window.installEventFilter(self)

    def take_counts(self, counts: dict[StateFilter, int]) -> None:
        """Rows of the transfers page by state: how many of them need a person?"""
        self._troubles = counts.get(StateFilter.ATTENTION, 0)
        if self._window.isActiveWindow():
            self._seen_troubles = self._troubles
        self._seen_troubles = min(self._seen_troubles, self._troubles)
        self._show()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.WindowActivate:
            self._seen_troubles = self._troubles
        if event.type() in (QEvent.Type.WindowActivate, QEvent.Type.Show):
            self._show()
        return False

    def _take_jobs(self, changes: list[JobChanged]) -> None:
        for job in changes:
            if job.state is JobState.RUNNING:
                self._jobs[job.job_id] = job
            else:
                self._jobs.pop(job.job_id, None)
        self._show()

    def _take_engine(self, state: EngineChanged) -> None:
        self._moving = state.running and state.idle_since is None
        if not state.running:
            self._jobs.clear()
        self._show()

    def _show(self) -> None:
        now = self._wanted()
        if now != (ButtonState.IDLE, 0) or now != self._shown:
            # Said again and again while something is shown: the button is another one after the shell has restarted.
            self._shown = now
            self._button.show(*now)

    def _wanted(self) -> tuple[ButtonState, int]:
        red = self._troubles > self._seen_troubles
        if not self._moving:
            return (ButtonState.NEEDS_PERSON, STEPS) if red else (ButtonState.IDLE, 0)
        working = [job for job in self._jobs.values() if _is_open(job.counts)]
        steps = progress([job.counts for job in working])
        if red:
            return ButtonState.NEEDS_PERSON, max(steps, 1)
        if any(job.planning for job in working) or not working:
            return ButtonState.UNKNOWN, 0
        return ButtonState.WORKING, steps


def progress(counts: list[Counts]) -> int:
    """How far these jobs are together, out of `STEPS`: by bytes where they are known, else by images."""
    total, done = sum(c.bytes_total for c in counts), sum(min(c.bytes_done, c.bytes_total) for c in counts)
    if not total:
        total, done = sum(c.total for c in counts), sum(c.total - c.planned - c.sending for c in counts)
    return min(STEPS, done * STEPS // total) if total else 0


def _is_open(counts: Counts) -> bool:
    return counts.planned + counts.sending > 0


def button_of(window: QWidget) -> Button | None:
    """The window's button; None where the system has no such taskbar."""
    if sys.platform == "win32":
        return taskbar_button(int(window.winId()))
    return None


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _Guid(ctypes.Structure):
        _fields_ = [("a", wintypes.DWORD), ("b", wintypes.WORD), ("c", wintypes.WORD), ("d", ctypes.c_ubyte * 8)]

    _TASKBAR_LIST = _Guid(0x56FDF344, 0xFD6D, 0x11D0, (ctypes.c_ubyte * 8)(0x95, 0x8A, 0, 0x60, 0x97, 0xC9, 0xA0, 0x90))
    _LIST_3 = _Guid(0xEA1AFB91, 0x9E28, 0x4B86, (ctypes.c_ubyte * 8)(0x90, 0xE9, 0x9E, 0x9F, 0x8A, 0x5E, 0xEF, 0xAF))
    _IN_PROCESS = 1
    _RELEASE, _INITIALISE, _SET_VALUE, _SET_STATE = 2, 3, 9, 10  # places in the table of ITaskbarList3

    class _TaskbarButton:
        """ITaskbarList3 for one window, on the thread that made it."""

        def __init__(self, interface: ctypes.c_void_p, window: int) -> None:
            self._interface = interface
            self._window = wintypes.HWND(window)
            self.result = 0  # HRESULT of the last call

        def show(self, state: ButtonState, steps: int) -> None:
            self.result = self.call(_SET_STATE, self._window, ctypes.c_int(state))
            if state in (ButtonState.WORKING, ButtonState.NEEDS_PERSON):
                of = (ctypes.c_ulonglong(steps), ctypes.c_ulonglong(STEPS))
                self.result = self.call(_SET_VALUE, self._window, *of) or self.result

        def call(self, place: int, *values: ctypes._SimpleCData[Any]) -> int:
            table = ctypes.cast(self._interface, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
            kinds = [type(value) for value in values]
            method = ctypes.WINFUNCTYPE(ctypes.c_long, ctypes.c_void_p, *kinds)(table[place])
            return int(method(self._interface, *values)) & 0xFFFFFFFF

        def __del__(self) -> None:
            if self._interface:
                self.call(_RELEASE)

    def taskbar_button(window: int) -> _TaskbarButton | None:
        """The taskbar's button of a window; None where there is no shell that has one."""
        ole = ctypes.windll.ole32
        ole.CoInitializeEx(None, 2)  # COINIT_APARTMENTTHREADED; Qt has done it already where it has windows
        interface = ctypes.c_void_p()
        result = ole.CoCreateInstance(
            ctypes.byref(_TASKBAR_LIST), None, _IN_PROCESS, ctypes.byref(_LIST_3), ctypes.byref(interface)
        )
        if result or not interface:
            _log.info("no taskbar: 0x%08x", result & 0xFFFFFFFF)
            return None
        button = _TaskbarButton(interface, window)
        if failed := button.call(_INITIALISE):
            _log.info("no taskbar: 0x%08x", failed)
            return None
        return button
