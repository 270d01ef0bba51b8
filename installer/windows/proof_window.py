"""How soon the installed window is there, on a computer that does nothing else: measured under Wine, and printed."""

from __future__ import annotations

import time
from pathlib import Path

from installer.windows.checks import (
    MOST_INSTALL_SECONDS,
    MOST_START_SECONDS,
    PER_MACHINE,
    Figures,
    Installed,
    Installers,
)
from installer.windows.product import NAME, WINDOW_EXE
from installer.windows.windows_screen import WindowsScreen, on_screen
from installer.windows.wine import Wine, windows_path

_STARTS = ("the first", "the second", "the third")


def measure(wine: Wine, files: Installers, figures: Figures, work: Path) -> None:
    """Install, and start the window three times, and a program of Wine's own for comparison."""
    program = Installed(wine, PER_MACHINE)
    with figures.timed("Setup, installed with nothing else going on", MOST_INSTALL_SECONDS):
        wine.run([windows_path(files.setup), "/S", "/ALLUSERS"], timeout=600)
    with on_screen(wine, work / "screen-window") as screen:
        wine.run(["cmd", "/c", "exit"], timeout=120)  # Windows is there before a person starts anything
        own = min(_seconds(wine, "notepad", screen, "Notepad") for _ in range(2))
        figures.note(f"For comparison, Wine's own notepad on the screen: {own:.1f} s")
        for which in _STARTS:
            seconds = _seconds(wine, f"{program.folder}\\{WINDOW_EXE}", screen, f"^{NAME}$")
            figures.seconds(f"Window on the screen, {which} start", seconds, MOST_START_SECONDS)


def _seconds(wine: Wine, program: str, screen: WindowsScreen, name: str) -> float:
    """Seconds from the start to the window; the program is ended then."""
    began = time.monotonic()
    process = wine.start([program])
    try:
        screen.appears(name)
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()
        screen.gone(name)
