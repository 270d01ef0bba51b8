"""Starting and ending: a home that can't be opened, a second start, unexpected errors, quitting safely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from core.app import App, EngineHandle
from core.model.errors import FerryError
from core.model.events import EngineChanged, Event
from gui.app import main
from gui.single_instance import SingleInstance
from gui.tray import Tray
from gui.trouble import TroubleWindow, UnexpectedErrors
from tests.gui.hands import Hands
from tests.gui.hospital import open_hospital
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE, wait_for

#: Root may write everywhere, and Windows asks differently: there something lies in the way instead.
_ROOT = sys.platform == "win32" or os.getuid() == 0


def _trouble() -> TroubleWindow | None:
    return next((w for w in QApplication.topLevelWidgets() if isinstance(w, TroubleWindow) and w.isVisible()), None)


def _main_windows() -> list[QWidget]:
    return [w for w in QApplication.topLevelWidgets() if w.objectName() == "main" and w.isVisible()]


def test_a_damaged_ledger_is_a_sentence_with_a_next_step(tmp_path: Path, qtbot: QtBot) -> None:
    app = App.open(tmp_path / "home")
    ledger = app.home.ledger_file
    app.close()
    ledger.write_bytes(b"this is no ledger" * 4096)
    for extra in ledger.parent.glob(ledger.name + "-*"):
        extra.unlink()
    seen: list[str] = []

    def look() -> None:
        window = _trouble()
        if window is None:
            QTimer.singleShot(50, look)
            return
        seen.append(window.sentence.text())
        seen.append(window.next_step.text())
        window.quit.click()

    QTimer.singleShot(0, look)
    assert main(tmp_path / "home") == 2
    assert all(seen)
    assert "Traceback" not in " ".join(seen)


def test_try_again_opens_what_was_mended(tmp_path: Path, qtbot: QtBot) -> None:
    if _ROOT:
        home = tmp_path / "file" / "home"
        (tmp_path / "file").write_text("in the way")
    else:
        home = tmp_path / "locked" / "home"
        (tmp_path / "locked").mkdir(mode=0o500)
    texts: list[str] = []
    others = _main_windows()

    def look() -> None:
        window = _trouble()
        opened = [w for w in _main_windows() if w not in others]
        if opened:
            opened[0].close()
            return
        if window is not None and not texts:
            texts.append(window.sentence.text())
            if _ROOT:
                (tmp_path / "file").unlink()
                (tmp_path / "file").mkdir()
            else:
                (tmp_path / "locked").chmod(0o700)
            window.retry.click()
        QTimer.singleShot(50, look)

    QTimer.singleShot(0, look)
    assert main(home) == 0
    assert texts


def test_begun_in_a_tray_that_is_not_there_the_window_is_minimised(tmp_path: Path, qtbot: QtBot) -> None:
    seen: list[bool] = []
    others = _main_windows()

    def look() -> None:
        opened = [w for w in _main_windows() if w not in others]
        if not opened:
            QTimer.singleShot(50, look)
            return
        seen.append(opened[0].isMinimized())
        opened[0].close()

    QTimer.singleShot(0, look)
    assert main(tmp_path / "home", in_tray=True) == 0
    assert seen == [True]


def test_unexpected_errors_reach_the_banner_and_no_traceback_does(
    hospital: Hands, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = UnexpectedErrors()
    errors.happened.connect(hospital.session.failed)
    remove = errors.install()
    try:
        sys.excepthook(KeyError, KeyError("study"), None)
        hospital.wait(lambda: hospital.window.banner.isVisible())
        assert hospital.window.banner.lead == "Something unexpected went wrong in the program."
        hospital.window.banner.put_away()
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
        hospital.wait(lambda: hospital.window.banner.isVisible())
        assert "Traceback" not in hospital.read(hospital.window.banner)
    finally:
        remove()
    assert sys.excepthook is not None


def test_a_second_start_calls_the_first(qtbot: QtBot) -> None:
    home = f"home-of-this-test-{uuid.uuid4()}"  # others may run this test at the same moment
    first, second = SingleInstance(home), SingleInstance(home)
    assert first.is_first()
    try:
        with qtbot.waitSignal(first.called):
            assert not second.is_first()
    finally:
        first.close()
    third = SingleInstance(home)
    assert third.is_first()
    third.close()


def test_quitting_asks_while_something_is_on_its_way(empty: Hands) -> None:
    window = empty.window
    empty.session._sort([EngineChanged(True, 1e6, 3, 0)])
    window.close()
    empty.wait(lambda: empty.question() is not None)
    question = empty.question()
    assert question is not None
    assert "3 studies not yet confirmed" in empty.read(question)
    empty.answer("Stay")
    empty.wait(lambda: empty.question() is None)
    assert window.isVisible()
    empty.session._sort([EngineChanged(True, 1e6, 3, 0)])  # the real engine may have said meanwhile that it is idle
    window.close()
    with empty.qtbot.waitSignal(window.ended):
        empty.answer("Quit")
    assert not window.isVisible()


def listening(hands: Hands) -> None:
    """This computer becomes a node that others can send to, as the wizard would save it."""
    port = free_port()
    hands.session.app.nodes.add("this-computer", "here", {"aet": "FERRY", "port": port, "reserve": 0.1}, {})
    hands.wait(lambda: hands.session.state.listeners == 1)


def test_closing_leaves_the_program_in_the_tray_while_this_computer_listens(empty: Hands) -> None:
    window, session = empty.window, empty.session
    tray = Tray(session, window)  # there is none on this screen; what it does is the same
    told: list[str] = []
    tray._icon.showMessage = lambda title, *_: told.append(title)  # type: ignore[method-assign]
    listening(empty)
    window.close()
    assert not window.isVisible()
    assert empty.question() is None
    assert told == ["DICOM Ferry is still running"]
    handle = session.handle
    assert handle is not None
    empty.wait(lambda: handle.landing() is not None)
    tray.show_window()
    assert window.isVisible()
    window.quit()
    empty.wait(lambda: empty.question() is not None)
    question = empty.question()
    assert question is not None
    assert "nobody can send images to this computer" in empty.read(question)
    with empty.qtbot.waitSignal(window.ended):
        empty.answer("Quit")
    assert handle.landing() is None


def test_without_a_tray_closing_asks_whether_to_stop_listening(empty: Hands) -> None:
    listening(empty)
    empty.window.close()
    empty.wait(lambda: empty.question() is not None)
    question = empty.question()
    assert question is not None
    assert "This computer is ready to receive images" in empty.read(question)
    empty.answer("Stay")
    empty.wait(lambda: empty.question() is None)
    assert empty.window.isVisible()


def test_a_failing_command_is_a_sentence(hospital: Hands) -> None:
    def refuse() -> None:
        raise FerryError("The ledger is busy.", "Try again.", detail="locked")

    hospital.session.command(hospital.window, refuse)
    hospital.wait(lambda: hospital.window.banner.isVisible())
    assert (hospital.window.banner.lead, hospital.window.banner.rest) == ("The ledger is busy.", "Try again.")
    assert hospital.button(hospital.window.banner, "Copy details")


def test_the_window_attaches_to_another_engine(tmp_path: Path, open_window: Callable[..., Hands]) -> None:
    first = open_hospital(tmp_path / "home", filled=False)
    handle = first.engine(lambda _event: None)
    second = App.open(tmp_path / "home")
    hands = open_window(second, engine=True)
    hands.wait(lambda: "another process" in hands.window.rail.engine.text())
    handle.stop()
    hands.wait(lambda: "another process" not in hands.window.rail.engine.text())
    hands.close()
    second.close()
    first.close()


def test_the_program_runs_by_itself(tmp_path: Path) -> None:
    """`python -m gui` in its own process: the window is shown, and closing it ends the program in order."""
    code = (
        "import sys\n"
        "from PySide6.QtCore import QTimer\n"
        "from gui.app import main, prepare\n"
        "application = prepare()\n"
        "def end():\n"
        "    windows = [w for w in application.topLevelWidgets() if w.objectName() == 'main' and w.isVisible()]\n"
        "    if windows and windows[0]._session.handle is not None:\n"
        "        windows[0].close()\n"
        "    else:\n"
        "        QTimer.singleShot(50, end)\n"
        "QTimer.singleShot(0, end)\n"
        "sys.exit(main())\n"
    )
    variables = {**os.environ, "DICOM_FERRY_HOME": str(tmp_path / "home"), "QT_QPA_PLATFORM": "offscreen"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process by other means")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_in_order_when_the_system_asks(tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "home"
    variables = {**os.environ, "DICOM_FERRY_HOME": str(home), "QT_QPA_PLATFORM": "offscreen"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gui"], env=variables, cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        log = home / "logs" / "window.log"
        wait_for(lambda: log.exists() and "window shown" in log.read_text(encoding="utf-8"))
        process.send_signal(number)
        _output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    first = SingleInstance(App.open(home).home.id)
    assert first.is_first(), "nothing of it was left behind"
    first.close()


def test_an_engine_that_can_t_start_is_told_and_shown(tmp_path: Path, open_window: Callable[..., Hands]) -> None:
    app = App.open(tmp_path / "home")

    def refuse(_on_event: object, **_more: object) -> None:
        raise FerryError("The lock of the engine can't be made.", "Check the folder's rights.")

    app.engine = refuse  # type: ignore[method-assign, assignment]
    hands = open_window(app)
    hands.session.start()
    hands.wait(lambda: hands.window.banner.lead == "The lock of the engine can't be made.")
    assert "Engine stopped" in hands.window.rail.engine.text()
    hands.close()
    app.close()


def test_an_engine_that_has_not_said_a_word_is_starting_not_stopped(
    tmp_path: Path, open_window: Callable[..., Hands]
) -> None:
    app = App.open(tmp_path / "home")
    engine, words = app.engine, threading.Event()

    def slow(on_event: Callable[[Event], None], *, watch: bool) -> EngineHandle:
        def tell(event: Event) -> None:
            assert words.wait(PATIENCE)
            on_event(event)

        return engine(tell, watch=watch)

    app.engine = slow  # type: ignore[method-assign, assignment]
    hands = open_window(app)
    hands.session.start()
    try:
        hands.wait(lambda: hands.session.handle is not None)
        assert "Engine starting" in hands.window.rail.engine.text()
    finally:
        words.set()
    hands.wait(lambda: "Engine running" in hands.window.rail.engine.text())
    hands.close()
    app.close()
