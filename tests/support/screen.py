"""A screen in memory (Xvfb) with a small window manager and, if wanted, a place for tray icons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support.processes import Child, clean_environment
from tests.support.servers import required_program
from tests.support.waiting import PATIENCE, wait_for

_SCREENSHOT = """
import sys
from PySide6.QtGui import QGuiApplication
app = QGuiApplication([])
app.primaryScreen().grabWindow(0).save(sys.argv[1])
"""


class Screen:
    """An X server with openbox. `env` holds the variables that make a process show itself there."""

    def __init__(self, folder: Path, *, width: int = 1280, height: int = 800, tray: bool = False) -> None:
        self.folder = folder
        self.size = f"{width}x{height}"
        self.tray = tray
        self.env: dict[str, str] = {}
        self._children: list[Child] = []

    def start(self) -> Self:
        server = self._child(
            *("Xvfb", "-displayfd", "1", "-screen", "0", f"{self.size}x24", "-nolisten", "tcp", "-noreset")
        )
        number = wait_for(lambda: server.stdout().strip(), what="a screen number from Xvfb")
        self.env = {"DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
        self._child("openbox", "--sm-disable")
        wait_for(self._managed, what="the window manager")
        if self.tray:
            self._child(
                *("trayer", "--edge", "top", "--align", "right", "--widthtype", "request"),
                *("--height", "32", "--SetDockType", "true"),
            )
            wait_for(lambda: self.windows("--class", "trayer"), what="the tray")
        return self

    def windows(self, *by: str) -> list[str]:
        """Identifiers of the windows that ``xdotool search`` finds, e.g. ``"--name", "DICOM Ferry"``."""
        return self._xdotool("search", *by).stdout.split()

    def active(self) -> str:
        """The title of the window that has the keyboard; empty where none has."""
        return self._xdotool("getactivewindow", "getwindowname").stdout.strip()

    def xdotool(self, *words: str) -> str:
        """Move, click and type as a person does."""
        result = self._xdotool(*words)
        assert result.returncode == 0, f"xdotool {' '.join(words)}: {result.stderr}"
        return result.stdout

    def click(self, x: int, y: int, button: int = 1) -> None:
        self.xdotool("mousemove", "--sync", str(x), str(y), "click", str(button))

    def screenshot(self, path: Path) -> Path:
        """Save what the screen shows as a picture."""
        subprocess.run(
            [sys.executable, "-c", _SCREENSHOT, str(path)], env=self._environment(), check=True, timeout=PATIENCE
        )
        return path

    def close(self) -> None:
        for child in reversed(self._children):
            child.close()

    def _managed(self) -> bool:
        # Only a window manager sets the current desktop.
        return self._xdotool("get_desktop").returncode == 0

    def _xdotool(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [required_program("xdotool"), *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def _child(self, program: str, *words: str) -> Child:
        child = Child([required_program(program), *words], self.folder, env=self._environment())
        self._children.append(child)
        return child

    def _environment(self) -> dict[str, str]:
        return clean_environment(HOME=str(self.folder), **self.env)
