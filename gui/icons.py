"""The SVG icon family, drawn in the theme's colours."""

from __future__ import annotations

import functools
from importlib.resources import files

from PySide6.QtCore import QByteArray, QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QGuiApplication, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QLabel, QPushButton, QToolButton, QWidget

from gui.theme import Role, theme

ICON_PX = 18


@functools.cache
def svg_source(name: str) -> str:
    """The SVG's text, stroked in ``currentColor``; the plain "info" sign when a kind names an unknown icon."""
    file = files("resources") / "icons" / f"{name}.svg"
    if not file.is_file():
        file = files("resources") / "icons" / "info.svg"
    return file.read_text(encoding="utf-8")


def pixmap(name: str, colour: QColor, size: int = ICON_PX, ratio: float = 1.0) -> QPixmap:
    """An icon in one colour; `size` in device-independent pixels."""
    return _pixmap(name, colour.name(), size, ratio)


@functools.lru_cache(maxsize=512)
def _pixmap(name: str, colour: str, size: int, ratio: float) -> QPixmap:
    source = svg_source(name).replace("currentColor", colour)
    renderer = QSvgRenderer(QByteArray(source.encode()))
    image = QPixmap(round(size * ratio), round(size * ratio))
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    renderer.render(painter, QRectF(0, 0, image.width(), image.height()))
    painter.end()
    image.setDevicePixelRatio(ratio)
    return image


def icon(name: str, role: Role = Role.SOFT, *, checked: Role | None = None, size: int = ICON_PX) -> QIcon:
    """An icon for buttons and menus, sharp on every screen that there is."""
    result = QIcon()
    for ratio in sorted({1.0, *(s.devicePixelRatio() for s in QGuiApplication.screens())}):
        normal = pixmap(name, theme().colour(role), size, ratio)
        result.addPixmap(normal, QIcon.Mode.Normal, QIcon.State.Off)
        result.addPixmap(pixmap(name, theme().colour(Role.DISABLED), size, ratio), QIcon.Mode.Disabled)
        if checked is not None:
            on = pixmap(name, theme().colour(checked), size, ratio)
            result.addPixmap(on, QIcon.Mode.Normal, QIcon.State.On)
    return result


def application_icon() -> QIcon:
    """The ferry on the accent's colour, for title bars and task lists."""
    result = QIcon()
    for size in (16, 24, 32, 48, 64, 128, 256):
        result.addPixmap(application_picture(size))
    return result


def application_picture(size: int) -> QPixmap:
    """The application's icon in one size, pixels."""
    image = QPixmap(size, size)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme().colour(Role.ACCENT))
    painter.drawRoundedRect(QRectF(0, 0, size, size), size * 0.22, size * 0.22)
    inner = round(size * 0.72)
    mark = pixmap("ferry", theme().colour(Role.ON_ACCENT), inner)
    painter.drawPixmap((size - inner) // 2, (size - inner) // 2, mark)
    painter.end()
    return image


class IconButton(QPushButton):
    """A push button whose icon follows the theme.

    Parameters
    ----------
    kind : str
        "primary", "danger", "small", "quiet", "link", "chip", "rail" or "" (plain); styled by the theme.
    """

    def __init__(
        self,
        text: str = "",
        name: str = "",
        parent: QWidget | None = None,
        *,
        kind: str = "",
        role: Role = Role.SOFT,
        checked: Role | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._name, self._role, self._checked = name, role, checked
        if kind:
            self.setProperty("kind", kind)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click needs no frame around what was clicked
        self.setIconSize(QSize(16, 16))
        self._draw()

    def set_icon_name(self, name: str, role: Role | None = None) -> None:
        self._name = name
        self._role = role or self._role
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() is QEvent.Type.PaletteChange and self._drawn != theme().dark:
            self._draw()

    def _draw(self) -> None:
        self._drawn = theme().dark
        if self._name:
            self.setIcon(icon(self._name, self._role, checked=self._checked))


class IconToolButton(QToolButton):
    """A button of an icon alone; its `text` is the accessible name and tool tip."""

    def __init__(self, name: str, text: str, parent: QWidget | None = None, *, role: Role = Role.SOFT) -> None:
        super().__init__(parent)
        self._name, self._role = name, role
        self.setToolTip(text)
        self.setAccessibleName(text)
        self.setIconSize(QSize(16, 16))
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._draw()

    def set_icon_name(self, name: str, text: str) -> None:
        self._name = name
        self.setToolTip(text)
        self.setAccessibleName(text)
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() is QEvent.Type.PaletteChange and self._drawn != theme().dark:
            self._draw()

    def _draw(self) -> None:
        self._drawn = theme().dark
        self.setIcon(icon(self._name, self._role))


class IconLabel(QLabel):
    """An icon that can't be clicked; follows the theme."""

    def __init__(self, name: str, role: Role = Role.SOFT, size: int = ICON_PX, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name, self._role, self._size = name, role, size
        self.setFixedSize(size, size)
        self._draw()

    def set_icon_name(self, name: str, role: Role) -> None:
        self._name, self._role = name, role
        self._draw()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() is QEvent.Type.PaletteChange and self._drawn != theme().dark:
            self._draw()

    def _draw(self) -> None:
        self._drawn = theme().dark
        ratio = self.devicePixelRatioF()
        self.setPixmap(pixmap(self._name, theme().colour(self._role), self._size, ratio))
