"""The window's program: opens the home, shows the window, and ends in stages."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QLocale, QTimer
from PySide6.QtWidgets import QApplication, QSystemTrayIcon

from core.app import App
from core.model.errors import FerryError
from core.running_mark import mark_running
from gui import background
from gui.collector import Collector
from gui.icons import application_icon
from gui.main_window import MainWindow
from gui.session import Session
from gui.signals import EndingSignals
from gui.single_instance import SingleInstance
from gui.taskbar import Taskbar, button_of, identify
from gui.theme import Appearance, theme
from gui.tray import Tray
from gui.trouble import TroubleWindow, UnexpectedErrors
from gui.widgets.unattended import tell_of_unattended

_log = logging.getLogger(__name__)


def main(home: Path | None = None, argv: Sequence[str] | None = None, *, in_tray: bool = False) -> int:
    """Run the window on a home folder, by default the user's own or ``DICOM_FERRY_HOME``.

    Parameters
    ----------
    in_tray : bool
        Show nothing but the icon in the tray; without a tray, the window minimised.

    Returns
    -------
    int
        0; 2 when the home can't be opened and the person gave up.
    """
    began = time.perf_counter()
    mark_running()
    application = prepare(argv)
    errors = UnexpectedErrors()
    remove_hook = errors.install()
    try:
        app = _open(home)
        if app is None:
            return 2
        try:
            return _run(application, app, errors, began, in_tray=in_tray)
        finally:
            app.close()
    finally:
        remove_hook()


def prepare(argv: Sequence[str] | None = None) -> QApplication:
    """The one QApplication of this process, named and styled."""
    identify()
    existing = QApplication.instance()
    application = (
        existing
        if isinstance(existing, QApplication)
        else QApplication(list(argv) if argv is not None else sys.argv[:1])
    )
    application.setApplicationName("DICOM Ferry")
    application.setDesktopFileName("dicom-ferry")
    application.setQuitOnLastWindowClosed(False)
    locale = QLocale.system()
    # A session without a locale ("C") would write 1204 and 2026-11-21: fine for programs.
    QLocale.setDefault(locale if locale.language() is not QLocale.Language.C else QLocale("en_GB"))
    theme().install(application)
    application.setWindowIcon(application_icon())
    return application


def _open(home: Path | None) -> App | None:
    """The opened application; None when it can't be opened and the person gave up."""
    while True:
        try:
            return App.open(home)
        except FerryError as error:
            window = TroubleWindow(error)
            if window.exec() != TroubleWindow.DialogCode.Accepted:
                return None


def _run(application: QApplication, app: App, errors: UnexpectedErrors, began: float, *, in_tray: bool = False) -> int:
    app.log_to_file("window")
    theme().choose(Appearance(app.settings.appearance.value))
    single = SingleInstance(app.home.id)
    if not single.is_first():
        return 0
    session = Session(app)
    errors.happened.connect(session.failed)
    # On the home of an unattended engine several people may have a window: none keeps its place there.
    window = MainWindow(session, str(app.home.folder / "window.ini") if app.home.unattended is None else "")
    single.called.connect(window.bring_to_front)
    tray = Tray(session, window) if QSystemTrayIcon.isSystemTrayAvailable() else None
    button = button_of(window)
    if button is not None:
        window.counted.connect(Taskbar(session, window, button).take_counts)
    window.ended.connect(application.quit)
    signals = EndingSignals(window.end)
    if not in_tray:
        window.show()
    elif tray is None:
        window.showMinimized()
    _log.info("window shown after %.2f s", time.perf_counter() - began)
    collector = Collector()
    QTimer.singleShot(0, collector.start)
    session.start()
    tell_of_unattended(session, window.banner)
    status = application.exec()
    signals.close()
    del tray
    if not session.wait():
        _log.error("the engine did not stop in time")
    background.settle()
    collector.stop()
    single.close()
    return status
