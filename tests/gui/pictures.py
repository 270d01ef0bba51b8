"""Takes the pictures of the real window: ``python -m tests.gui.pictures [FOLDER]``, by default the README's own.

Runs without a screen. With a folder it takes every page and every step of the wizards, light and dark, full
and empty; without one it takes the few that the README shows.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QSize
from PySide6.QtGui import QFont, QFontDatabase
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from core.app import App
from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.events import EngineChanged, StudyChanged
from core.model.views import Preview
from gui.app import prepare
from gui.main_window import MainWindow
from gui.session import Session
from gui.theme import Appearance, theme
from tests.gui.hospital import open_hospital
from tests.gui.pictures_cloud import take_cloud
from tests.gui.pictures_everyone import take_everyone
from tests.gui.pictures_gateway import take_gateway
from tests.gui.pictures_migrate import take_migration
from tests.gui.pictures_nodes import take_nodes
from tests.gui.pictures_rules import take_rules
from tests.gui.pictures_steps import take_steps
from tests.support.keyrings import no_keyring

README = Path(__file__).parents[2] / "resources" / "pictures"


class Photographer:
    """One window of one home, and where its pictures go."""

    def __init__(self, app: App, folder: Path, size: QSize) -> None:
        self.folder = folder
        self.session = Session(app)
        self.window = MainWindow(self.session)
        self.window.resize(size)
        self.window.show()
        self.wait()

    def wait(self, ms: int = 400) -> None:
        QTest.qWait(ms)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what is read in the background, ten seconds at most."""
        tries = 200
        while not condition() and (tries := tries - 1):
            QTest.qWait(50)
        assert condition()

    def engine(self, *, unconfirmed: int, speed: float = 0.0) -> None:
        """As if the engine had spoken: none runs on this home."""
        self.session.handle = _Handle()  # type: ignore[assignment]
        idle = None if speed else datetime.now().astimezone()
        self.session._sort([EngineChanged(True, speed, unconfirmed, 2, idle)])
        row = next((r for r in self._rows() if r.state.value == "sending"), None)
        if row is not None and speed:
            from dataclasses import replace

            self.session._sort([StudyChanged(replace(row, speed=speed, seconds_left=12.0))])
        self.wait()

    def _rows(self):  # type: ignore[no-untyped-def]
        model = self.window.transfers.model
        return [model.record(i) for i in range(model.rowCount())]

    def take(self, name: str, widget: QWidget | None = None) -> None:
        QApplication.processEvents()
        (widget or self.window).grab().save(str(self.folder / f"{name}.png"))

    def close(self) -> None:
        self.window.banner.put_away()
        self.window._ended = True
        self.window.close()
        self.session.wait()


class _Handle:
    attached = False
    running = True
    may_run = True


def main() -> None:
    application = prepare(["pictures"])
    if "Inter" in QFontDatabase.families():
        font = QFont("Inter")
        font.setPixelSize(13)
        application.setFont(font)
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    folder = chosen or README
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(no_keyring(Path(scratch) / "keyring"))
        _take_all(folder, Path(scratch), everything=chosen is not None)


def _take_all(folder: Path, scratch: Path, *, everything: bool) -> None:
    app = open_hospital(scratch / "full", more=360)
    for appearance in (Appearance.LIGHT, Appearance.DARK):
        theme().choose(appearance)
        suffix = "-dark" if appearance is Appearance.DARK else ""
        _full(app, folder, suffix, everything=everything)
    app.close()
    (scratch / "other").mkdir()
    take_migration(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other", everything=everything)
    take_steps(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other", everything=everything)
    take_nodes(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other", everything=everything)
    if not everything:
        return
    take_cloud(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other")
    take_gateway(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other")
    take_everyone(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other")
    take_rules(lambda a: Photographer(a, folder, QSize(1280, 800)), scratch / "other", everything=True)
    theme().choose(Appearance.LIGHT)
    app = open_hospital(scratch / "small", more=360)
    _full(app, folder, "-small", everything=True, size=QSize(1000, 640))
    app.close()
    app = open_hospital(scratch / "empty", filled=False)
    camera = Photographer(app, folder, QSize(1280, 800))
    camera.engine(unconfirmed=0)
    for page in ("home", "transfers", "jobs", "nodes", "log", "settings"):
        camera.window.go(page)
        camera.wait(200)
        camera.take(f"empty-{page}")
    camera.window.new_transfer()
    camera.wait(200)
    assert camera.window.wizard is not None
    camera.window.wizard.go_on()
    camera.wait(200)
    camera.take("empty-send", camera.window.wizard)
    camera.window.wizard.reject()
    camera.close()
    app.close()


def _full(app: App, folder: Path, suffix: str, *, everything: bool, size: QSize | None = None) -> None:
    camera = Photographer(app, folder, size or QSize(1280, 800))
    camera.engine(unconfirmed=3, speed=86e6)
    window = camera.window
    window.go("transfers")
    camera.wait()
    window.transfers.table.selectRow(0)
    camera.wait(900)
    camera.engine(unconfirmed=3, speed=86e6)
    camera.take(f"transfers{suffix}")
    if everything:
        window.transfers.table.selectRow(3)
        window.transfers.detail.show_images()
        camera.wait(900)
        camera.take(f"images{suffix}")
        window.transfers._close_detail()
        window.transfers.set_compact(True)
        camera.wait(200)
        camera.take(f"compact{suffix}")
        window.transfers.set_compact(False)
        for page in ("home", "jobs", "log", "settings"):
            window.go(page)
            camera.wait(300)
            if page == "log":
                window.log.table.selectRow(1)
                camera.wait(100)
            camera.take(f"{page}{suffix}")
    if everything:
        window.go("nodes")
        camera.wait(200)
        at = window.nodes.model.row_of("PACS West")
        assert at is not None
        window.nodes.table.selectRow(at)
        camera.wait(200)
        camera.take(f"nodes-orthanc{suffix}")
    if everything or not suffix:
        _send(camera, suffix, everything=everything)
    if everything:
        _add(camera, suffix)
    camera.close()


def _send(camera: Photographer, suffix: str, *, everything: bool) -> None:
    wizard = camera.window.new_transfer()
    camera.wait(200)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("kind", lambda: None),
        ("route", lambda: _route(camera, wizard)),
        ("what", lambda: _what(wizard)),
        ("steps", lambda: None),
        ("when", lambda: wizard.when.follow.setChecked(True)),
    ]
    for name, act in steps:
        act()
        camera.wait(100)
        if everything:
            camera.take(f"send-{name}{suffix}", wizard)
        wizard.go_on()
        camera.wait(150)
    summary = wizard.summary
    summary.leave()
    sample = (
        "MÜLLER, Anna · 21 Nov CT Thorax / Abdomen",
        "ROSSI, Paolo · 21 Nov CT Brain",
        "SMITH, John Q. · 20 Nov CT Angiography coronary",
    )
    summary.problem.put_away()
    summary.stop.hide()
    summary._show(Preview(37, 120, 24_118, 12_660_000_000, 642, 2, 310, True, "", 620.0, sample), done=True)
    summary._name_deletion(Preview(37, 120, 24_118, 12_660_000_000, 642, 2, 310, True))
    summary.refused = False
    summary.understood.setChecked(True)
    camera.wait(100)
    camera.take(f"send-wizard{suffix}" if not everything else f"send-summary{suffix}", wizard)
    wizard.reject()
    camera.wait(100)


def _route(camera: Photographer, wizard) -> None:  # type: ignore[no-untyped-def]
    camera.until(lambda: "CT 2" in wizard.route.sources.checks)
    wizard.route.sources.checks["CT 2"].setChecked(True)
    wizard.route.destinations.checks["Cloud archive"].setChecked(True)


def _what(wizard) -> None:  # type: ignore[no-untyped-def]
    wizard.what.rule.set_value("Modality = CT and StudyDate >= 20200101")
    wizard.what.move_them.setChecked(True)


def _add(camera: Photographer, suffix: str) -> None:
    wizard = camera.window.nodes.open_wizard()
    camera.wait(200)
    camera.take(f"add-kind{suffix}", wizard)
    wizard.kind_page.choices["orthanc"].click()
    wizard.go_on()
    camera.wait(100)
    wizard.fields_page.name.setText("Orthanc CT")
    form = wizard.fields_page.form
    assert form is not None
    form.set_values({"url": "http://ct.hospital.lan:8042", "username": "ferry"})
    form.editors["password"].set_value("secret")
    camera.wait(600)
    camera.take(f"add-fields{suffix}", wizard)
    form.more.setChecked(True)
    form.set_values({"url": "ct.hospital.lan:port"})
    form.check()
    camera.wait(200)
    camera.take(f"add-more{suffix}", wizard)
    form.set_values({"url": "http://127.0.0.1:9"})
    wizard.go_on()
    page = wizard.test_page
    camera.wait(1200)
    camera.take(f"add-failed{suffix}", wizard)
    page.leave()
    page.list.show_steps(
        [
            DiagnosisStep("Name found", StepResult.OK, "ct.hospital.lan → 10.4.2.17"),
            DiagnosisStep("Port answers", StepResult.OK, "8042/tcp in 3 ms"),
            DiagnosisStep("HTTP answers", StepResult.OK, "status 200"),
            DiagnosisStep("Login accepted", StepResult.OK, "as ferry"),
            DiagnosisStep("Is an Orthanc", StepResult.OK, "Orthanc 1.12.7 “CT”"),
        ]
    )
    page._finished()
    camera.wait(200)
    camera.take(f"add-works{suffix}", wizard)
    wizard.reject()
    camera.wait(100)


if __name__ == "__main__":
    main()
