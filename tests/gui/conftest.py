"""A window on a home of its own, driven as a person drives it."""

from __future__ import annotations

import gc
import os
import shutil

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from core.app import App
from gui import background
from gui.app import prepare
from gui.main_window import MainWindow
from gui.session import Session
from tests.gui.hands import Hands
from tests.gui.hospital import open_hospital
from tests.gui.patient_bot import LONG_MS, PatientBot
from tests.support.keyrings import no_keyring


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Garbage is collected after each test, on this thread, as `gui.collector` has it in the program.

    A cycle with a widget in it, collected by a thread of the engine, would be deleted there: a crash.
    """
    if not item.path.is_relative_to(Path(__file__).parent):  # pytest asks for all tests here
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _styled(qapp: QApplication) -> None:
    prepare()


@pytest.fixture(autouse=True)
def _no_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets stay in this process: nothing is asked of the keyring of whoever runs the tests."""
    for name, value in no_keyring(tmp_path / "keyring").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def qtbot(qapp: QApplication, request: pytest.FixtureRequest) -> QtBot:
    return PatientBot(request)


@pytest.fixture
def open_window(qtbot: QtBot) -> Iterator[Callable[..., Hands]]:
    """Opens windows: ``open_window(app, engine=True)``; they are closed, and their engines stopped, at the end."""
    opened: list[Hands] = []

    def open_(app: App, *, engine: bool = False) -> Hands:
        session = Session(app)
        window = MainWindow(session)
        hands = Hands(qtbot, session, window)
        opened.append(hands)
        window.show()
        qtbot.waitExposed(window)
        if engine:
            session.start()
            qtbot.waitUntil(lambda: session.handle is not None)
        return hands

    yield open_
    for hands in opened:
        hands.close()
    assert background.settle(LONG_MS)


@pytest.fixture(scope="session")
def _hospital_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Filled once, copied for each test."""
    folder = tmp_path_factory.mktemp("hospital") / "home"
    open_hospital(folder).close()
    return folder


@pytest.fixture
def hospital(tmp_path: Path, _hospital_home: Path, open_window: Callable[..., Hands]) -> Iterator[Hands]:
    """A window on a hospital's day; no engine."""
    app = App.open(Path(shutil.copytree(_hospital_home, tmp_path / "hospital")))
    hands = open_window(app)
    yield hands
    hands.close()
    background.settle(LONG_MS)
    app.close()


@pytest.fixture
def empty(tmp_path: Path, open_window: Callable[..., Hands]) -> Iterator[Hands]:
    """A newcomer's window, with its engine."""
    app = App.open(tmp_path / "home")
    hands = open_window(app, engine=True)
    yield hands
    hands.close()
    background.settle(LONG_MS)
    app.close()
