"""Some of the registered nodes, each to be ticked."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from gui.theme import STEP
from gui.widgets.basics import label


class NodeChecks(QWidget):
    """A box for each node.

    Parameters
    ----------
    nodes : Sequence[str]
    empty : str
        What is said where there is none.

    Attributes
    ----------
    changed : Signal()
    boxes : dict[str, QCheckBox]
        By node.
    """

    changed = Signal()

    def __init__(self, nodes: Sequence[str], empty: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.boxes: dict[str, QCheckBox] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(STEP)
        self._none = label(empty or "There is none.", "soft", wrap=True)
        self._layout.addWidget(self._none)
        self.offer(nodes)

    def offer(self, nodes: Sequence[str]) -> None:
        """Nodes to choose from; what was chosen stays, also where it is none of these any more."""
        chosen = self.chosen()
        for box in self.boxes.values():
            self._layout.removeWidget(box)
            box.deleteLater()
        self.boxes = {}
        for name in [*nodes, *(name for name in chosen if name not in nodes)]:
            box = QCheckBox(name)
            box.setChecked(name in chosen)
            box.toggled.connect(lambda _: self.changed.emit())
            self.boxes[name] = box
            self._layout.addWidget(box)
        self._none.setVisible(not self.boxes)

    def chosen(self) -> list[str]:
        return [name for name, box in self.boxes.items() if box.isChecked()]

    def choose(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.boxes]
        if missing:
            self.offer([*self.boxes, *missing])
        for name, box in self.boxes.items():
            box.setChecked(name in names)
