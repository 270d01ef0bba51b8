"""The step of "New transfer" that only gateways have: what is kept for how long, the switch, and the heart-beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue
from PySide6.QtWidgets import QCheckBox, QComboBox, QRadioButton, QSpinBox, QWidget

from core.model.fields import FormField
from gui.models.gateways import hours
from gui.theme import STEP
from gui.widgets.basics import column, divider, label, row
from gui.widgets.form import Form
from gui.widgets.switch import Switch
from gui.wizards.frame import WizardPage

if TYPE_CHECKING:
    from core.app import JobKind

BEATS = ("heartbeat_port", "heartbeat_address", "heartbeat_file", "heartbeat_every", "late_after")
PLACED = ("after", "keep_hours", "empty_servers", "routing", *BEATS)
_DAY = 24
_OWN_STORE = (
    "Earlier when the disk runs short. What is not confirmed is never deleted: when there is no room left, images are "
    "refused (A700), and the sender keeps them."
)
_OTHERS = "Exactly the images that were confirmed are deleted, nothing else. What is not confirmed stays."


class GatewayPage(WizardPage):
    """How a gateway stands: its store, its switch, and who watches over it."""

    step = "Keeping"
    title = "What is kept, and who watches over it?"
    hint = "A gateway runs for as long as DICOM Ferry does, tries again for ever, and gives nothing up by itself."

    def __init__(self) -> None:
        super().__init__()
        self._servers: tuple[str, ...] = ()
        self._own = True
        self.beats: Form | None = None
        self.body.setSpacing(3 * STEP)
        self.body.addWidget(self._build_store())
        self.body.addWidget(divider())
        self.body.addWidget(self._build_switch())
        self.body.addWidget(divider())
        self.body.addWidget(label("Heart-beat for monitoring systems", "strong"))
        self._place = column()
        self.body.addLayout(self._place)
        self.body.addStretch(1)
        self._tell()

    def _build_store(self) -> QWidget:
        self.store = QWidget()
        layout = column(spacing=STEP)
        self.store.setLayout(layout)
        layout.addWidget(label("Once a study is confirmed at every destination", "strong"))
        line = row()
        self.delete = QRadioButton("Delete it on this computer after")
        self.keep = QRadioButton("Keep it on this computer for ever")
        self.delete.setChecked(True)
        self.number = QSpinBox()
        self.number.setRange(0, 3650)
        self.number.setAccessibleName("Keep confirmed studies for")
        self.number.setMaximumWidth(72)
        self.number.lineEdit().setTextMargins(6, 0, 0, 0)
        self.unit = QComboBox()
        self.unit.setAccessibleName("Hours or days")
        self.unit.addItems(["hours", "days"])
        self.unit.setMaximumWidth(96)
        for part in (self.delete, self.number, self.unit):
            line.addWidget(part)
        line.addStretch(1)
        layout.addLayout(line)
        layout.addWidget(self.keep)
        self.about = label(_OWN_STORE, "small", wrap=True)
        layout.addWidget(self.about)
        self.servers = QCheckBox()
        layout.addWidget(self.servers)
        self.delete.toggled.connect(lambda _: self._tell())
        self.servers.toggled.connect(lambda _: self.changed.emit())
        return self.store

    def _build_switch(self) -> QWidget:
        box = QWidget()
        layout = column(spacing=STEP)
        box.setLayout(layout)
        line = row(spacing=3 * STEP)
        self.routing = Switch("Auto-routing")
        self.routing.setChecked(True)
        line.addWidget(self.routing)
        line.addWidget(label("Auto-routing", "strong"))
        line.addStretch(1)
        layout.addLayout(line)
        about = "Off: images are received and nothing is sent. It can be switched at any time, on the start page too."
        layout.addWidget(label(about, "small", wrap=True))
        return box

    def show_kind(self, kind: JobKind, fields: Sequence[FormField]) -> None:
        if self.beats is not None:
            return
        default = next(f.default for f in fields if f.name == "keep_hours")
        self.number.setValue(int(default))
        self.beats = Form(kind.Fields, names=BEATS)
        self.beats.changed.connect(self.changed)
        self._place.addWidget(self.beats)

    def show_sources(self, own: Sequence[str], servers: Sequence[str]) -> None:
        """Sources that take images in themselves, and the others."""
        if (bool(own), tuple(servers)) == (self._own, self._servers):
            return
        self._own, self._servers = bool(own), tuple(servers)
        names = ", ".join(servers).replace("&", "&&")
        self.servers.setText(f"Delete it at {names}, too")
        self.servers.setChecked(False)
        where = "on this computer" if own else f"at {names}"
        self.delete.setText(f"Delete it {where} after")
        self.keep.setText(f"Keep it {where} for ever")
        (self.delete if own else self.keep).setChecked(True)  # what a server has is no store of ours
        self.about.setText(_OWN_STORE if own else _OTHERS)
        self._tell()

    def set_others(self, values: Mapping[str, JsonValue]) -> None:
        if self.beats is not None:
            self.beats.set_others(values)

    def _tell(self) -> None:
        deletes = self.delete.isChecked()
        self.number.setEnabled(deletes)
        self.unit.setEnabled(deletes)
        self.servers.setVisible(self._own and bool(self._servers) and deletes)
        self.changed.emit()

    @property
    def moves(self) -> bool:
        """Something is deleted at a source, be it this computer."""
        return self.delete.isChecked()

    @property
    def empties(self) -> tuple[str, ...]:
        """Servers of which images are deleted."""
        chosen = self.delete.isChecked() and (not self._own or self.servers.isChecked())
        return self._servers if chosen else ()

    @property
    def keep_hours(self) -> int:
        return self.number.value() * (_DAY if self.unit.currentIndex() else 1)

    def accept(self) -> bool:
        return self.beats is None or self.beats.check()

    def values(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = dict(self.beats.values()) if self.beats is not None else {}
        return found | {
            "after": "move" if self.delete.isChecked() else "keep",
            "keep_hours": self.keep_hours,
            "empty_servers": bool(self.empties),
            "routing": self.routing.isChecked(),
        }

    def facts(self) -> list[tuple[str, str]]:
        """The choices in words."""
        where = [*(["on this computer"] if self._own else []), *(f"at {name}" for name in self.empties)]
        if not self.delete.isChecked() or not where:
            kept = "Kept"
        elif self.keep_hours:
            kept = f"Deleted {' and '.join(where)} {hours(self.keep_hours)} later"
        else:
            kept = f"Deleted {' and '.join(where)} at once"
        found = [("Once confirmed", kept)]
        if not self.routing.isChecked():
            found.append(("Auto-routing", "Off at first"))
        values = self.beats.values() if self.beats is not None else {}
        if values.get("heartbeat_port") or values.get("heartbeat_file"):
            port = f"port {values['heartbeat_port']}" if values.get("heartbeat_port") else ""
            found.append(("Heart-beat", " and ".join(p for p in (port, str(values.get("heartbeat_file") or "")) if p)))
        return found
