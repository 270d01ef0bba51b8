"""One palette with roles, light and dark, and the style sheet made from it: the only place with colours."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template

from PySide6.QtCore import QObject, Qt, QTemporaryDir, Signal
from PySide6.QtGui import QColor, QFont, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

STEP = 4  # spacing comes in multiples of this, in device-independent pixels
BODY_PX = 13
SMALL_PX = 12
TITLE_PX = 19
ROW_PX = 46
COMPACT_ROW_PX = 30


class Role(StrEnum):
    """What a colour is for."""

    BACKGROUND = "background"
    PANEL = "panel"
    INK = "ink"
    SOFT = "soft"
    LINE = "line"
    FIELD_LINE = "field_line"
    HOVER = "hover"
    SELECTION = "selection"
    TRACK = "track"
    ACCENT = "accent"
    ACCENT_HOVER = "accent_hover"
    ACCENT_TINT = "accent_tint"
    ON_ACCENT = "on_accent"
    GREEN = "green"
    GREEN_TINT = "green_tint"
    AMBER = "amber"
    AMBER_TINT = "amber_tint"
    RED = "red"
    RED_TINT = "red_tint"
    ON_RED = "on_red"
    GREY_TINT = "grey_tint"
    DISABLED = "disabled"


class Tone(StrEnum):
    """The mood of a pill or banner: a colour on a tint of it."""

    GREY = "grey"
    BLUE = "blue"
    GREEN = "green"
    AMBER = "amber"
    RED = "red"


_TONES: dict[Tone, tuple[Role, Role]] = {
    Tone.GREY: (Role.SOFT, Role.GREY_TINT),
    Tone.BLUE: (Role.ACCENT, Role.ACCENT_TINT),
    Tone.GREEN: (Role.GREEN, Role.GREEN_TINT),
    Tone.AMBER: (Role.AMBER, Role.AMBER_TINT),
    Tone.RED: (Role.RED, Role.RED_TINT),
}

LIGHT: dict[Role, str] = {
    Role.BACKGROUND: "#f6f7f9",
    Role.PANEL: "#ffffff",
    Role.INK: "#1b2430",
    Role.SOFT: "#5d6b7c",
    Role.LINE: "#e3e7ec",
    Role.FIELD_LINE: "#cdd4dc",
    Role.HOVER: "#eff2f5",
    Role.SELECTION: "#e9f3f8",
    Role.TRACK: "#eceff3",
    Role.ACCENT: "#0b6e8f",
    Role.ACCENT_HOVER: "#095c78",
    Role.ACCENT_TINT: "#e3f1f6",
    Role.ON_ACCENT: "#ffffff",
    Role.GREEN: "#1d7a46",
    Role.GREEN_TINT: "#e2f3e9",
    Role.AMBER: "#9a5b00",
    Role.AMBER_TINT: "#fdf0d9",
    Role.RED: "#b3261e",
    Role.RED_TINT: "#fbe6e4",
    Role.ON_RED: "#ffffff",
    Role.GREY_TINT: "#eceff3",
    Role.DISABLED: "#9aa5b1",
}

DARK: dict[Role, str] = {
    Role.BACKGROUND: "#14181d",
    Role.PANEL: "#1b2027",
    Role.INK: "#e6ebf1",
    Role.SOFT: "#97a4b3",
    Role.LINE: "#2b323b",
    Role.FIELD_LINE: "#3b444f",
    Role.HOVER: "#222932",
    Role.SELECTION: "#20303a",
    Role.TRACK: "#262d36",
    Role.ACCENT: "#4db6d6",
    Role.ACCENT_HOVER: "#74c7e1",
    Role.ACCENT_TINT: "#17323d",
    Role.ON_ACCENT: "#06222c",
    Role.GREEN: "#5cc98c",
    Role.GREEN_TINT: "#16301f",
    Role.AMBER: "#f0b860",
    Role.AMBER_TINT: "#352812",
    Role.RED: "#ff8a80",
    Role.RED_TINT: "#3a1a18",
    Role.ON_RED: "#2b0906",
    Role.GREY_TINT: "#262d36",
    Role.DISABLED: "#5f6b78",
}


class Appearance(StrEnum):
    """What the person asked for."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True, slots=True)
class ToneColours:
    text: QColor
    tint: QColor


class Theme(QObject):
    """The present palette; follows the system's dark mode unless the person chose one.

    Attributes
    ----------
    changed : Signal()
        After palette and style sheet were set anew.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.appearance = Appearance.SYSTEM
        self._colours = dict(LIGHT)
        self._qcolours: dict[Role, QColor] = {}
        self._dark = False
        self._pictures = QTemporaryDir()
        atexit.register(self._pictures.remove)
        self._installed = False
        self._rebuild()

    @property
    def dark(self) -> bool:
        return self._dark

    def colour(self, role: Role) -> QColor:
        return self._qcolours[role]

    def hex(self, role: Role) -> str:
        return self._colours[role]

    def tone(self, tone: Tone) -> ToneColours:
        text, tint = _TONES[tone]
        return ToneColours(self._qcolours[text], self._qcolours[tint])

    def install(self, application: QApplication) -> None:
        """Give the application style, font and palette, and follow the system from now on."""
        if self._installed:
            return
        self._installed = True
        application.setStyle("Fusion")
        font = QFont(application.font())
        font.setPixelSize(BODY_PX)
        application.setFont(font)
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(self.refresh)
        self.refresh()

    def choose(self, appearance: Appearance) -> None:
        """Follow the system, or stay light or dark."""
        self.appearance = appearance
        scheme = {
            Appearance.SYSTEM: Qt.ColorScheme.Unknown,
            Appearance.LIGHT: Qt.ColorScheme.Light,
            Appearance.DARK: Qt.ColorScheme.Dark,
        }[appearance]
        QGuiApplication.styleHints().setColorScheme(scheme)  # native dialogs and title bars follow
        self.refresh()

    def refresh(self) -> None:
        """Set palette and style sheet by what holds now."""
        if self.appearance is Appearance.SYSTEM:
            self._dark = QGuiApplication.styleHints().colorScheme() is Qt.ColorScheme.Dark
        else:
            self._dark = self.appearance is Appearance.DARK
        self._rebuild()
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.setPalette(self._palette())
            application.setStyleSheet(style_sheet(self._colours, Path(self._pictures.path())))
        self.changed.emit()

    def _rebuild(self) -> None:
        self._colours = dict(DARK if self._dark else LIGHT)
        self._qcolours = {role: QColor(value) for role, value in self._colours.items()}

    def _palette(self) -> QPalette:
        c = self._qcolours
        p = QPalette()
        roles = QPalette.ColorRole
        for role, colour in (
            (roles.Window, c[Role.BACKGROUND]),
            (roles.WindowText, c[Role.INK]),
            (roles.Base, c[Role.PANEL]),
            (roles.AlternateBase, c[Role.HOVER]),
            (roles.Text, c[Role.INK]),
            (roles.Button, c[Role.PANEL]),
            (roles.ButtonText, c[Role.INK]),
            (roles.BrightText, c[Role.RED]),
            (roles.ToolTipBase, c[Role.INK]),
            (roles.ToolTipText, c[Role.PANEL]),
            (roles.PlaceholderText, c[Role.SOFT]),
            (roles.Highlight, c[Role.ACCENT]),
            (roles.HighlightedText, c[Role.ON_ACCENT]),
            (roles.Link, c[Role.ACCENT]),
            (roles.Light, c[Role.LINE]),
            (roles.Midlight, c[Role.LINE]),
            (roles.Mid, c[Role.LINE]),
            (roles.Dark, c[Role.FIELD_LINE]),
            (roles.Shadow, c[Role.FIELD_LINE]),
        ):
            p.setColor(role, colour)
        for role in (roles.WindowText, roles.Text, roles.ButtonText):
            p.setColor(QPalette.ColorGroup.Disabled, role, c[Role.DISABLED])
        return p


def small_font(font: QFont) -> QFont:
    """The second line of a row."""
    small = QFont(font)
    small.setPixelSize(SMALL_PX)
    small.setWeight(QFont.Weight.Normal)
    return small


def strong_font(font: QFont) -> QFont:
    """What is looked for in a row."""
    strong = QFont(font)
    strong.setWeight(QFont.Weight.DemiBold)
    return strong


def tabular_font(font: QFont) -> QFont:
    """Figures of one width, so that columns of numbers don't dance."""
    tabular = QFont(font)
    tabular.setFeature(QFont.Tag("tnum"), 1)
    return tabular


def style_sheet(colours: dict[Role, str], pictures: Path) -> str:
    """The application's style sheet for a palette; its tick and arrow are drawn into the folder `pictures`."""
    values = {role.value: colours[role] for role in Role}
    values |= {"body": f"{BODY_PX}px", "small": f"{SMALL_PX}px", "title": f"{TITLE_PX}px"}
    values |= {
        "tick": _picture("check", colours[Role.ON_ACCENT], pictures),
        "chevron": _picture("down", colours[Role.SOFT], pictures),
    }
    return Template((files("resources") / "style.qss").read_text(encoding="utf-8")).substitute(values)


def _picture(name: str, colour: str, folder: Path) -> str:
    """A style sheet takes pictures only from files: the icon in its colour, as one."""
    source = (files("resources") / "icons" / f"{name}.svg").read_text(encoding="utf-8")
    file = folder / f"{name}-{colour[1:]}.svg"
    file.write_text(source.replace("currentColor", colour).replace("1.75", "3"), encoding="utf-8")
    return file.as_posix()


_theme: Theme | None = None


def theme() -> Theme:
    """The one theme of this process."""
    global _theme
    if _theme is None:
        _theme = Theme()
    return _theme
