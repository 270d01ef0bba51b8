"""The window beside an unattended engine, and on its home: whose it is, that it stops, that it comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel

from core.app import App
from core.model.job import JobState
from core.unattended.mark import MARK, Unattended, mark_text
from core.unattended.place import Place
from gui import autostart
from gui.autostart import AtLogin, By
from gui.widgets import unattended
from tests.gui.hands import Hands
from tests.support.ferry import Ferry
from tests.support.studies import make_studies


def folders(ferry: Ferry) -> None:
    """Two folders as nodes, and a slow forward between them that is saved."""
    source, target = ferry.folder / "from", ferry.folder / "to"
    target.mkdir()
    for study in make_studies(40, instances=2, size_bytes=200_000):
        study.write(source / study.study_uid)
    ferry.run("node", "add", "folder", "from", "--path", source).expect()
    ferry.run("node", "add", "folder", "to", "--path", target).expect()
    ferry.run(
        *("job", "save", "forward", "--source", "from", "--destination", "to", "--name", "Night"),
        *("--bandwidth", "1", "--workers", "1"),
    ).expect()


@pytest.mark.posix
@pytest.mark.parametrize("whose", ["a person's", "the unattended engine's"])
def test_the_window_attaches_commands_and_leaves(ferry: Ferry, open_window: Callable[..., Hands], whose: str) -> None:
    folders(ferry)
    owned = whose == "the unattended engine's"
    if owned:
        (ferry.home / MARK).write_text(mark_text(Unattended("dicom-ferry")), encoding="utf-8")
    engine = ferry.start("engine", "--json")
    engine.wait_event("engine")
    app = App.open(ferry.home)
    hands = open_window(app, engine=True)
    window = hands.window
    words = "Unattended engine runs" if owned else "Engine runs in another process"
    hands.wait(lambda: words in window.rail.engine.text())
    assert ("unattended engine" in window.windowTitle()) is owned

    job = app.jobs.get("Night")
    app.jobs.start(job.id)
    hands.go("transfers")
    model = window.transfers.model
    hands.wait(lambda: model.rowCount() > 0)
    hands.wait(lambda: app.jobs.get(job.id).counts.verified > 0)
    app.jobs.pause(job.id)
    hands.wait(lambda: app.jobs.get(job.id).state is JobState.PAUSED)
    app.jobs.resume(job.id)
    hands.wait(lambda: app.jobs.get(job.id).state is JobState.RUNNING)

    hands.close()  # the window goes, the engine stays
    app.close()
    assert engine.running
    app = App.open(ferry.home)
    hands = open_window(app, engine=True)
    window = hands.window
    hands.wait(lambda: words in window.rail.engine.text())

    engine.close()
    if owned:
        hands.wait(lambda: window.banner.lead == "The unattended engine has stopped.")
        assert "systemctl start" in window.banner.rest or "schtasks" in window.banner.rest
        assert "Unattended engine stopped" in window.rail.engine.text()
        assert hands.session.handle is not None
        assert hands.session.handle.attached
        engine = ferry.start("engine", "--json")
        hands.wait(lambda: "Unattended engine runs" in window.rail.engine.text())
        hands.wait(lambda: not window.banner.isVisible())
        engine.close()
    else:
        hands.wait(lambda: window.banner.lead == "The engine that ran in another process has ended.")
        assert hands.session.handle is not None
        assert not hands.session.handle.attached
    hands.close()
    app.close()


def test_a_window_beside_it_says_whose_it_is(empty: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Place(tmp_path / "machine", "dicom-ferry", "radiology", may_open=False)
    monkeypatch.setattr(unattended, "machine_place", lambda: closed)
    banner = empty.window.banner
    unattended.tell_of_unattended(empty.session, banner)
    assert banner.lead == "An unattended engine is set up on this computer, under the account dicom-ferry."
    assert "this window shows your own" in banner.rest
    assert "Only the account dicom-ferry and members of the group radiology may open it." in banner.rest
    banner._put_away()
    unattended.tell_of_unattended(empty.session, banner)
    assert not banner.isVisible(), "once is enough"
    empty.go("settings")
    card = empty.window.settings.unattended
    empty.wait(card.isVisible)
    assert "this window shows your own" in card.text.text()
    assert not card.open.isVisible()


def test_who_may_open_it_has_a_button_for_that(empty: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(unattended, "machine_place", lambda: Place(tmp_path / "m", "dicom-ferry", "radiology", True))
    monkeypatch.setattr(
        unattended.QProcess, "startDetached", lambda program, words: started.append([program, *words]) or (True, 1)
    )
    empty.go("settings")
    card = empty.window.settings.unattended
    empty.wait(card.isVisible)
    empty.click(card.open)
    assert started[0][-2:] == ["--home", str(tmp_path / "m")]
    assert autostart.IN_TRAY not in started[0]


def test_where_there_is_none_nothing_is_said(empty: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unattended, "machine_place", lambda: None)
    unattended.tell_of_unattended(empty.session, empty.window.banner)
    assert not empty.window.banner.isVisible()


@pytest.mark.skipif(sys.platform != "linux", reason="tests/unit/test_autostart.py has the Run key")
def test_the_switch_starts_it_at_login(empty: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    empty.go("settings")
    at_login = empty.window.settings.at_login
    empty.wait(at_login.switch.isEnabled)
    assert not at_login.switch.isChecked()
    empty.click(at_login.switch)
    empty.wait(lambda: autostart.at_login() == AtLogin(By.PERSON))
    empty.wait(lambda: at_login.switch.isEnabled() and "begins in the tray" in at_login.text.text())
    assert at_login.switch.isChecked()
    empty.click(at_login.switch)
    empty.wait(lambda: autostart.at_login() == AtLogin(By.NOBODY))


def test_what_was_set_for_everybody_is_shown_and_told(empty: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autostart, "available", lambda: True)
    monkeypatch.setattr(autostart, "at_login", lambda: AtLogin(By.EVERYBODY, may_change=False))
    empty.go("settings")
    at_login = empty.window.settings.at_login
    empty.wait(at_login.switch.isChecked)
    assert not at_login.switch.isEnabled()
    assert "Only an administrator can change that." in at_login.text.text()


def test_a_switch_that_can_t_be_switched_says_why_and_shows_what_is_true(
    empty: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not autostart.available() or sys.platform == "win32":
        pytest.skip("of Linux desktops alone")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "autostart").write_text("in the way")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    empty.go("settings")
    at_login = empty.window.settings.at_login
    empty.wait(at_login.switch.isEnabled)
    empty.click(at_login.switch)
    page = empty.window.settings
    empty.wait(lambda: "can't be changed" in page.banner.lead)
    empty.wait(at_login.switch.isEnabled)
    assert not at_login.switch.isChecked()
    assert not [w for w in page.findChildren(QLabel) if "Traceback" in w.text()]
