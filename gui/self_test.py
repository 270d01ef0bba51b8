"""The window's part of the self-test: the real window on an empty home, painted, and an icon in the tray."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PySide6.QtWidgets import QSystemTrayIcon

from core.app import App
from core.model.errors import FerryError
from gui import background
from gui.app import prepare
from gui.icons import application_icon
from gui.main_window import MainWindow
from gui.session import Session

_FEW_COLOURS = 20  # letters alone, smoothed, have more


def window_picture() -> str:
    """Paint the main window on a throw-away home; what was seen.

    Raises
    ------
    FerryError
        It was painted without text or icons.
    """
    application = prepare(["dicom-ferry"])
    with tempfile.TemporaryDirectory(prefix="dicom-ferry-self-test-", ignore_cleanup_errors=True) as folder:
        app = App.open(Path(folder) / "home")
        try:
            session = Session(app)
            window = MainWindow(session)
            window.show()
            application.processEvents()
            picture = window.grab().toImage()
            window.close()
            session.wait()
            background.settle()
        finally:
            app.close()
    colours = {picture.pixel(x, y) for x in range(0, picture.width(), 2) for y in range(0, picture.height(), 2)}
    if len(colours) < _FEW_COLOURS:
        raise FerryError("The window was painted without text: fonts are missing.", "Install a font package.")
    return f"painted {picture.width()}×{picture.height()} in {len(colours)} colours by {application.platformName()}"


def tray_icon() -> bool:
    """Show an icon in the tray for a moment; False where this desktop has no tray.

    Raises
    ------
    FerryError
        There is a tray, and the icon is not shown.
    """
    application = prepare(["dicom-ferry"])
    if not QSystemTrayIcon.isSystemTrayAvailable():
        return False
    icon = QSystemTrayIcon(application_icon())
    icon.show()
    application.processEvents()
    shown = icon.isVisible()
    icon.hide()
    if not shown:
        raise FerryError("The icon could not be put into the tray.", "Closing the window then ends the program.")
    return True
