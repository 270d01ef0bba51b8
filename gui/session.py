"""What all pages share: the opened application, its engine on a thread, and the engine's events by kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from PySide6.QtCore import QObject, Signal

from core.model.events import EngineChanged, Event, JobChanged, LogLine, NodeChanged, NodeHealth, StudyChanged
from core.qt import EngineThread, EventBridge
from gui.background import Operation

if TYPE_CHECKING:
    from core.app import App, EngineHandle

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Session(QObject):
    """One window's dealings with one home folder.

    Attributes
    ----------
    transfers : Signal(object)
        `list[TransferRow]`, at most one for each row: the last of a batch.
    jobs : Signal(object)
        `list[JobChanged]`, at most one for each job.
    nodes : Signal(object)
        `list[NodeChanged]`.
    log : Signal(object)
        `list[LogLine]`.
    engine : Signal(object)
        `EngineChanged`.
    attached : Signal(bool)
        The engine runs: in this process, or in another one that is watched.
    failed : Signal(object)
        An exception that concerns no page of its own.
    told : Signal(str, str)
        Something went well that is worth a message: what stands out, and the rest.
    nodes_edited, jobs_edited : Signal()
        The window itself added, changed or removed one.
    going : Signal(str, object)
        Somebody asks for a page, with what it should show there.
    """

    transfers = Signal(object)
    jobs = Signal(object)
    nodes = Signal(object)
    log = Signal(object)
    engine = Signal(object)
    attached = Signal(bool)
    failed = Signal(object)
    told = Signal(str, str)
    nodes_edited = Signal()
    jobs_edited = Signal()
    going = Signal(str, object)

    def __init__(self, app: App, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.app = app
        self.handle: EngineHandle | None = None
        self.state = EngineChanged(running=False, speed=0.0, unconfirmed_studies=0, followers=0)
        self.health: dict[str, NodeChanged] = {}
        self._bridge = EventBridge(self)
        self._bridge.batch.connect(self._sort)
        # An unattended engine may be stopped just now: the window shows its jobs nevertheless.
        self._thread = EngineThread(partial(app.engine, watch=True), self._bridge.post)
        self._thread.ready.connect(self._ready)
        self._thread.failed.connect(self._broke)
        self._closing = False
        self._broken = False
        self._heard = False
        self._reads = 0
        self._shown_reads: WeakKeyDictionary[QObject, dict[object, int]] = WeakKeyDictionary()

    # engine ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine, or attach to the one of another process."""
        self._thread.start()

    def stop(self, then: Callable[[], object]) -> None:
        """Let the engine settle what is in flight; `then` is called when nothing runs any more."""
        if self._closing:
            return
        self._closing = True
        if not self._thread.isRunning():
            then()
            return
        self._thread.finished.connect(then)
        self._thread.request_stop()

    def wait(self, timeout_ms: int = 90_000) -> bool:
        """Wait for the engine's thread; for the program's very end. A running QThread must not be collected."""
        self._thread.request_stop()
        ended = self._thread.wait(timeout_ms)
        self._bridge.close()
        return ended

    def _ready(self, handle: EngineHandle) -> None:
        self.handle = handle
        _log.info("attached to the engine of another process" if handle.attached else "the engine runs in this process")
        self.attached.emit(handle.attached)

    def _broke(self, error: Exception) -> None:
        self._broken = True
        self.failed.emit(error)
        self.attached.emit(False)

    @property
    def starting(self) -> bool:
        """The engine has neither failed to start nor said a word."""
        if self.handle is None:
            return not self._broken
        return not self._heard and (self.handle.attached or self.handle.running)

    def engine_now(self) -> EngineChanged:
        """The engine's last word, unless its thread has ended without one."""
        own = self.handle is not None and not self.handle.attached
        ended = self._broken or (own and self.handle is not None and not self.handle.running)
        return replace(self.state, running=False, speed=0.0) if ended else self.state

    # events ---------------------------------------------------------------------------------------------

    def _sort(self, events: list[Event]) -> None:
        """One signal for each kind; of several changes of one row only the last."""
        rows, jobs, nodes, lines = {}, {}, [], []
        engine: EngineChanged | None = None
        for event in events:
            if isinstance(event, StudyChanged):
                rows[event.row.id] = event.row
            elif isinstance(event, JobChanged):
                jobs[event.job_id] = event
            elif isinstance(event, NodeChanged):
                nodes.append(event)
            elif isinstance(event, LogLine):
                lines.append(event)
            else:
                engine = event
        if rows:
            self.transfers.emit(list(rows.values()))
        if jobs:
            self.jobs.emit(list(jobs.values()))
        if nodes:
            for change in nodes:
                self.health[change.name] = change
            self.nodes.emit(nodes)
        if lines:
            self.log.emit(lines)
        if engine is not None:
            self.state, self._heard = engine, True
            self.engine.emit(engine)

    def health_of(self, node: str) -> NodeHealth:
        change = self.health.get(node)
        return change.health if change is not None else NodeHealth.UNKNOWN

    # work -----------------------------------------------------------------------------------------------

    def read(self, owner: QObject, work: Callable[[], T], then: Callable[[T], object]) -> None:
        """Read something in the background; a failure is shown by the window's own banner.

        Reads run beside each other. What an earlier one brings late is dropped where a later one was shown already:
        it is how things were before.
        """
        self._reads += 1
        number, shown = self._reads, self._shown_reads.setdefault(owner, {})
        place = then.__func__ if isinstance(then, MethodType) else then

        def show(found: T) -> None:
            if shown.get(place, 0) < number:
                if place is not then:  # what is made for one read alone is in nobody's way
                    shown[place] = number
                then(found)

        Operation(owner, work).success(show).failure(self.failed.emit).run()

    def command(self, owner: QObject, work: Callable[[], object], then: Callable[[], object] | None = None) -> None:
        """Do something in the background, and let all pages look again at jobs and nodes."""

        def done(_result: object) -> None:
            self.jobs_edited.emit()
            if then is not None:
                then()

        Operation(owner, work).success(done).failure(self.failed.emit).run()
