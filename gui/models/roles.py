"""Roles that the window's models answer, beside Qt's own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from PySide6.QtCore import Qt

from gui.theme import Role


class ModelRole(IntEnum):
    """`SECOND` is a row's second line, `TONE` a pill's, `BAR` a `Bar`, `RECORD` the frozen object behind the row,
    `ICON` the name of an icon."""

    SECOND = Qt.ItemDataRole.UserRole + 1
    TONE = Qt.ItemDataRole.UserRole + 2
    BAR = Qt.ItemDataRole.UserRole + 3
    SORT = Qt.ItemDataRole.UserRole + 4
    RECORD = Qt.ItemDataRole.UserRole + 5
    ICON = Qt.ItemDataRole.UserRole + 6


@dataclass(frozen=True, slots=True)
class Bar:
    """A thin bar of coloured parts, from the left, each a fraction of the whole."""

    parts: tuple[tuple[float, Role], ...]
