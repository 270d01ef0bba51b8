"""When it can't even begin, and when something unexpected happens: a sentence, a next step, the detail to copy."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from gui import words
from gui.icons import IconButton, IconLabel, application_icon
from gui.theme import STEP, Role
from gui.widgets.basics import CopyButton, label, row

_log = logging.getLogger(__name__)


class TroubleWindow(QDialog):
    """Shown in the place of the main window when the home can't be opened.

    Attributes
    ----------
    again : Signal()
        "Try again" was pressed.
    """

    again = Signal()

    def __init__(self, error: BaseException, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        sentence, next_step, detail = words.sentence_of(error)
        self.setWindowTitle("DICOM Ferry")
        self.setWindowIcon(application_icon())
        self.setMinimumWidth(520)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6 * STEP, 6 * STEP, 6 * STEP, 5 * STEP)
        layout.setSpacing(3 * STEP)
        head = row(spacing=3 * STEP)
        head.addWidget(IconLabel("warning", Role.RED, 28), 0, Qt.AlignmentFlag.AlignTop)
        texts = QVBoxLayout()
        texts.setSpacing(2 * STEP)
        self.sentence = label(sentence, "heading", wrap=True, selectable=True)
        self.next_step = label(next_step, wrap=True, selectable=True)
        texts.addWidget(self.sentence)
        texts.addWidget(self.next_step)
        texts.addWidget(label("Nothing was changed.", "soft"))
        head.addLayout(texts, 1)
        layout.addLayout(head)
        buttons = row()
        buttons.addWidget(CopyButton("Copy details", f"{sentence}\n{next_step}\n\n{detail}", kind=""))
        buttons.addStretch(1)
        self.quit = IconButton("Quit")
        self.retry = IconButton("Try again", kind="primary")
        self.quit.clicked.connect(self.reject)
        self.retry.clicked.connect(self._again)
        buttons.addWidget(self.quit)
        buttons.addWidget(self.retry)
        layout.addLayout(buttons)
        self.retry.setDefault(True)

    def _again(self) -> None:
        self.accept()
        self.again.emit()


class UnexpectedErrors(QObject):
    """Takes exceptions that nobody has caught, from any thread, to the log and to the window's banner.

    Attributes
    ----------
    happened : Signal(object)
        The exception.
    """

    happened = Signal(object)

    def install(self) -> Callable[[], None]:
        """Become the process's hook; the callable returned puts back what was there."""
        before, before_thread = sys.excepthook, threading.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if issubclass(kind, KeyboardInterrupt):
                before(kind, error, trace)
                return
            _log.error("unexpected error", exc_info=(kind, error, trace))
            self.happened.emit(error)

        def thread_hook(args: threading.ExceptHookArgs) -> None:
            if args.exc_value is not None:
                hook(args.exc_type, args.exc_value, args.exc_traceback)

        sys.excepthook, threading.excepthook = hook, thread_hook

        def remove() -> None:
            sys.excepthook, threading.excepthook = before, before_thread

        return remove
