"""The main window: the rail, one page at a time, the status line. Navigation only."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TypeVar

from PySide6.QtCore import QByteArray, QSettings, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QCloseEvent, QKeySequence, QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from core.model.events import EngineChanged, NodeHealth
from core.model.views import StateFilter, TransferFilter
from gui import words
from gui.icons import application_icon
from gui.pages.home import HomePage
from gui.pages.jobs import JobsPage
from gui.pages.log import LogPage
from gui.pages.nodes import NodesPage
from gui.pages.settings import SettingsPage
from gui.pages.transfers import TransfersPage
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.ask import ask
from gui.widgets.banner import Banner
from gui.widgets.page import Page
from gui.widgets.rail import Rail
from gui.widgets.status_line import StatusLine
from gui.widgets.unattended import EngineWatch
from gui.wizards.send import SendWizard

BADGE_MS = 1000
PAGES = ("home", "transfers", "jobs", "nodes", "log", "settings")
P = TypeVar("P", bound=Page)


class MainWindow(QMainWindow):
    """Shows one page at a time.

    Parameters
    ----------
    session : Session
        Started already or not; the window listens to it.
    state_file : str
        Where size and place are kept; empty keeps them nowhere.

    Attributes
    ----------
    ended : Signal()
        The engine has stopped and the window is closed.
    counted : Signal(object)
        Rows of the transfers page by state, `dict[StateFilter, int]`, were counted anew.
    left_for_tray : Signal()
        The window was closed while this computer listens for images: it goes on in the tray.
    in_tray : bool
        The program has a place in the tray, from which the window can be opened again.
    """

    ended = Signal()
    left_for_tray = Signal()
    counted = Signal(object)

    def __init__(self, session: Session, state_file: str = "") -> None:
        super().__init__()
        self.setObjectName("main")
        self.setWindowTitle("DICOM Ferry" if session.app.home.unattended is None else "DICOM Ferry, unattended engine")
        self.setWindowIcon(application_icon())
        self.setMinimumSize(960, 600)
        self._session = session
        self._kept = QSettings(state_file, QSettings.Format.IniFormat) if state_file else None
        self.in_tray = False
        self._ended = False
        self._quitting = False
        self._wants_to_quit = False
        self._receiving: dict[str, str] = {}
        self._receives = False
        self.wizard: SendWizard | None = None
        self._build()
        self._restore()
        self.watch = EngineWatch(session, self.banner)
        session.going.connect(self.go)
        session.failed.connect(self.banner.show_error)
        session.told.connect(lambda lead, rest: self.banner.say(lead, rest, tone=Tone.GREEN))
        session.engine.connect(self._engine)
        session.nodes.connect(lambda _: self._receiving_soon())
        session.nodes_edited.connect(self._receiving_soon)
        session.attached.connect(lambda _: self._engine())
        session.transfers.connect(lambda _: self._badge_soon())
        session.jobs_edited.connect(self._badge_soon)
        self._badging = QTimer(self)
        self._badging.setSingleShot(True)
        self._badging.setInterval(BADGE_MS)
        self._badging.timeout.connect(self._badge)
        self._clock = QTimer(self)
        self._clock.setInterval(20_000)
        self._clock.timeout.connect(self._engine)
        self._clock.start()
        self.go("home")
        self._badge()

    def _build(self) -> None:
        self.rail = Rail()
        self.rail.chosen.connect(self.go)
        self.stack = QStackedWidget()
        self.stack.setObjectName("pages")
        self.banner = Banner()
        self.status = StatusLine()
        top = QFrame()
        top_layout = QVBoxLayout(top)
        top_layout.setContentsMargins(5 * STEP, 3 * STEP, 5 * STEP, 0)
        top_layout.addWidget(self.banner)
        self._top = top
        self._top.hide()
        right = QVBoxLayout()
        right.setContentsMargins(0, 0, 0, 0)
        right.setSpacing(0)
        right.addWidget(top)
        right.addWidget(self.stack, 1)
        right.addWidget(self.status)
        whole = QWidget()
        line = QHBoxLayout(whole)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(0)
        line.addWidget(self.rail)
        line.addLayout(right, 1)
        self.setCentralWidget(whole)
        self.banner.shown.connect(self._top.setVisible)
        self._shortcuts()
        self._making = QTimer(self)
        self._making.setInterval(60)
        self._making.timeout.connect(self._make_next)

    # pages: made when they are first needed, or once the window is shown and nothing else is to be done -------

    @cached_property
    def home(self) -> HomePage:
        page = HomePage(self._session)
        page.wants_transfer.connect(lambda: self.new_transfer())
        return self._adopt(page)

    @cached_property
    def transfers(self) -> TransfersPage:
        page = TransfersPage(self._session)
        page.wants_transfer.connect(lambda: self.new_transfer())
        page.set_compact(self._session.app.settings.compact_rows)
        return self._adopt(page)

    @cached_property
    def jobs(self) -> JobsPage:
        page = JobsPage(self._session)
        page.wants_transfer.connect(lambda: self.new_transfer())
        return self._adopt(page)

    @cached_property
    def nodes(self) -> NodesPage:
        return self._adopt(NodesPage(self._session))

    @cached_property
    def log(self) -> LogPage:
        return self._adopt(LogPage(self._session))

    @cached_property
    def settings(self) -> SettingsPage:
        page = SettingsPage(self._session)
        page.compact.connect(lambda compact: self.transfers.set_compact(compact))
        return self._adopt(page)

    def _adopt(self, page: P) -> P:
        self.stack.addWidget(page)
        page.status_changed.connect(self._engine)
        return page

    def _make_next(self) -> None:
        missing = next((name for name in PAGES if name not in self.__dict__), None)
        if missing is None:
            self._making.stop()
        else:
            getattr(self, missing)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._making.start()

    def _shortcuts(self) -> None:
        for keys, act in (
            (QKeySequence("Ctrl+N"), lambda: self.new_transfer()),
            (QKeySequence("F5"), self._refresh),
            (QKeySequence(QKeySequence.StandardKey.Find), self._find),
            (QKeySequence("Ctrl+Q"), self.quit),
            *((QKeySequence(f"Ctrl+{n}"), partial(self.go, name)) for n, name in enumerate(PAGES, 1)),
        ):
            action = QAction(self)
            action.setShortcut(keys)
            action.triggered.connect(lambda _=False, run=act: run())
            self.addAction(action)

    # navigation -----------------------------------------------------------------------------------------

    def go(self, name: str, wish: object = None) -> None:
        """Show a page, and there what is wished."""
        page: Page = getattr(self, name)
        self.stack.setCurrentWidget(page)
        page.setFocus()
        self.rail.choose(name)
        page.entered(wish)
        self._engine()

    @property
    def page(self) -> Page:
        found = self.stack.currentWidget()
        assert isinstance(found, Page)
        return found

    def new_transfer(self) -> SendWizard:
        self.wizard = SendWizard(self._session, self)
        self.wizard.done_with.connect(lambda _: self.go("transfers"))
        self.wizard.open()
        return self.wizard

    def _refresh(self) -> None:
        if self.page is self.nodes:
            self.nodes.test_chosen()
        else:
            self.page.refresh()

    def _find(self) -> None:
        search = getattr(self.page, "search", None)
        if isinstance(search, QWidget):
            search.setFocus()

    # what is seen everywhere ----------------------------------------------------------------------------

    def _engine(self, *_: object) -> None:
        handle = self._session.handle
        state, starting = self._session.engine_now(), self._session.starting
        attached, unattended = bool(handle and handle.attached), self._session.app.home.unattended is not None
        self.rail.show_engine(state, attached=attached, known=not starting, unattended=unattended)
        self._tell_receiving()
        self.status.show_engine(state, self.page.status)

    def _receiving_soon(self) -> None:
        """Read anew which nodes listen."""
        self._session.read(self, self._session.app.nodes.receiving, self._take_receiving)

    def _take_receiving(self, found: dict[str, str]) -> None:
        self._receiving = found
        self._tell_receiving()

    def _tell_receiving(self) -> None:
        if self._session.engine_now().running and not self._receives:
            self._receives = True
            self._receiving_soon()  # nodes of this computer may have listened before the window did
        down = [name for name in self._receiving if self._session.health_of(name) is NodeHealth.DOWN]
        text = ""
        if down:
            text = f"{down[0]} can't receive images: see Nodes."
        elif self._receiving and self._session.engine_now().running:
            more = len(self._receiving) - 1
            text = f"This computer {next(iter(self._receiving.values()))}" + (f", and {more} more" if more else "")
        self.rail.show_receiving(text, trouble=bool(down))

    def _badge_soon(self) -> None:
        if not self._badging.isActive():
            self._badging.start()

    def _badge(self) -> None:
        ledger = self._session.app.ledger
        self._session.read(self, lambda: ledger.state_counts(TransferFilter()), self._badged)

    def _badged(self, counts: dict[StateFilter, int]) -> None:
        self.rail.show_badge("transfers", counts.get(StateFilter.ATTENTION, 0))
        self.status.show_counts(counts)
        self.counted.emit(counts)

    def bring_to_front(self) -> None:
        """The program was started again."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()

    # ending ---------------------------------------------------------------------------------------------

    def quit(self) -> None:
        """End the program, after asking when something is not yet confirmed or others may call."""
        self._wants_to_quit = True
        self.close()
        self._wants_to_quit = False

    def end(self) -> None:
        """End the program without asking: the system wants it (SIGTERM)."""
        self._end()

    def closeEvent(self, event: QCloseEvent) -> None:
        self._keep()
        if self._ended:
            super().closeEvent(event)
            self.ended.emit()
            return
        event.ignore()
        state = self._session.state
        own = self._session.handle is not None and not self._session.handle.attached
        if own and not self._quitting and state.running:
            if state.listeners and self.in_tray and not self._wants_to_quit:
                self.hide()
                self.left_for_tray.emit()
                return
            if state.unconfirmed_studies or state.followers or state.listeners:
                self._ask_quit(state)
                return
        self._end()

    def _ask_quit(self, state: EngineChanged) -> None:
        texts = []
        if state.unconfirmed_studies:
            title = f"{words.studies(state.unconfirmed_studies)} not yet confirmed"
            texts.append(
                "Images on their way are finished first, which takes some seconds. The rest goes on when DICOM Ferry "
                "is started again; nothing is lost, and nothing confirmed is sent twice."
            )
        elif state.followers:
            title = f"{words.plural(state.followers, 'job')} watching for new studies"
        else:
            title = "This computer is ready to receive images"
        if state.listeners:
            texts.append("While DICOM Ferry is closed, nobody can send images to this computer.")
        if state.followers:
            texts.append("What arrives while DICOM Ferry is closed is sent when it is started again.")
        ask(self, title, " ".join(texts), "Quit", self._end, refuse="Stay", danger=False)

    def _end(self) -> None:
        if self._quitting:
            return
        self._quitting = True
        self.banner.say("Finishing what is on its way…", "The window closes by itself.", tone=Tone.BLUE)
        self._session.stop(self._finished)

    def _finished(self) -> None:
        self._ended = True
        self.close()

    def _restore(self) -> None:
        room = self.screen().availableGeometry().size() - QSize(8, 40)  # the frame and title bar
        self.resize(QSize(1280, 800).boundedTo(room).expandedTo(self.minimumSize()))
        if self._kept is not None:
            kept = self._kept.value("geometry")
            if isinstance(kept, QByteArray):
                self.restoreGeometry(kept)

    def _keep(self) -> None:
        if self._kept is not None and not self.windowState() & Qt.WindowState.WindowMinimized:
            self._kept.setValue("geometry", self.saveGeometry())
