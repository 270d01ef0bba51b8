"""Nodes that are called by others: they listen for as long as the engine runs, whether a job uses them or not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from core.engine.gate import Gate
from core.ledger.ledger import Ledger
from core.model.errors import FerryError, LedgerError
from core.model.events import Event, LogLevel, NodeChanged, NodeHealth
from core.nodes.base import Landing, Listen

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0  # until a port that was taken is tried again
LOOK_SECONDS = 1.0  # between two looks whether a node still listens
FIRST_SECONDS = 5.0  # that a starting engine gives its nodes before jobs begin
STOP_SECONDS = 40.0  # for what is being received to end at an instance boundary

GateOf = Callable[[str], Gate]
Tell = Callable[["Listener"], None]


class Listener:
    """One node's listening, on a thread of its own: opening may wait for the keyring, stopping for an instance.

    Attributes
    ----------
    saved : float
        When the node was saved that listens here; another time means other fields or secrets.
    problem : FerryError | None
        Why it doesn't listen now.
    since : datetime | None
        Since when there is that problem.
    """

    def __init__(self, name: str, saved: float, gate_of: GateOf, tell: Tell) -> None:
        self.name = name
        self.saved = saved
        self.problem: FerryError | None = None
        self.since: datetime | None = None
        self._gate_of = gate_of
        self._tell = tell
        self._node: Listen | None = None
        self._listened = False
        self._ended = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listen-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_tried(self, timeout: float) -> None:
        """Wait until it listens or has failed to once."""
        self._tried.wait(timeout)

    def stop(self) -> None:
        """What is being received ends at an instance boundary; returns when nothing listens any more."""
        self.ask_to_stop()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("%s still receives after %.0f s", self.name, STOP_SECONDS)

    def ask_to_stop(self) -> None:
        self._ended.set()

    @property
    def landing(self) -> Landing | None:
        """The node, where a C-MOVE can bring images right now."""
        node = self._node
        return node if node is not None and isinstance(node, Landing) and node.is_listening else None

    def _run(self) -> None:
        while not self._ended.is_set():
            works = self._look()
            self._tried.set()
            self._ended.wait(LOOK_SECONDS if works else RETRY_SECONDS)
        node = self._node
        if node is not None:
            node.stop_listening()

    def _look(self) -> bool:
        try:
            self._listen()
        except FerryError as error:
            self._trouble(error)
        except Exception as error:
            log.exception("listening as %s", self.name)
            words = f"Something went wrong inside DICOM Ferry when {self.name} was to listen."
            self._trouble(FerryError(words, "It is tried again; send the support bundle to your IT.",
                                     detail=repr(error), code="internal"))  # fmt: skip
        else:
            return True
        return False

    def _listen(self) -> None:
        if self._node is None:
            node = self._gate_of(self.name).node
            assert isinstance(node, Listen)
            self._node = node
        if self._node.is_listening:
            return
        self._node.listen()
        fresh = not self._listened or self.problem is not None
        self._listened = True
        self.problem = self.since = None
        if fresh:
            self._tell(self)

    def _trouble(self, error: FerryError) -> None:
        known = self.problem
        self.problem = error
        if known is None or known.sentence != error.sentence:
            self.since = datetime.now().astimezone()
            self._tell(self)


class Listeners:
    """All nodes of a home that listen.

    Parameters
    ----------
    ledger : Ledger
    names : Callable[[], Sequence[str]]
        Names of the nodes that shall listen; asked again and again.
    gate_of : Callable[[str], Gate]
        The engine's one opened node of this name, which jobs use as well.
    drop : Callable[[str], None]
        Closes that node again.
    on_event : Callable[[Event], None]
        Told when a node listens, or doesn't for a new reason; the log is as well.
    """

    def __init__(
        self,
        ledger: Ledger,
        names: Callable[[], Sequence[str]],
        gate_of: GateOf,
        drop: Callable[[str], None],
        on_event: Callable[[Event], None],
    ) -> None:
        self._ledger = ledger
        self._names = names
        self._gate_of = gate_of
        self._drop = drop
        self._on_event = on_event
        self._lock = threading.Lock()
        self._listeners: dict[str, Listener] = {}
        self._leaving: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Let all listen; returns when each does or can't, after some seconds at the latest."""
        self.look()
        until = time.monotonic() + FIRST_SECONDS
        for listener in list(self._listeners.values()):
            listener.wait_tried(max(0.0, until - time.monotonic()))

    def look(self) -> None:
        """Let those listen that were added, and no longer those that were removed; returns at once."""
        wanted = self._registered()
        with self._lock:
            self._leaving = {n: thread for n, thread in self._leaving.items() if thread.is_alive()}
            for name in [n for n in self._listeners if n not in wanted]:
                self._leave(self._listeners.pop(name))
            for name, saved in wanted.items():
                if name not in self._listeners and name not in self._leaving:
                    self._listeners[name] = Listener(name, saved, self._gate_of, self._tell)
                    self._listeners[name].start()

    def _leave(self, listener: Listener) -> None:
        def work() -> None:
            listener.stop()
            self._drop(listener.name)

        thread = threading.Thread(target=work, name=f"stop-listening-{listener.name}", daemon=True)
        self._leaving[listener.name] = thread
        thread.start()

    def changed(self) -> bool:
        """Whether a node that listens was saved anew."""
        wanted = self._registered()
        with self._lock:
            return any(wanted.get(n, one.saved) != one.saved for n, one in self._listeners.items())

    def keep(self, saved: Mapping[str, float]) -> frozenset[str]:
        """Stop those that were saved at another time than this, or removed; names of the others, which go on."""
        with self._lock:
            stale = [one for n, one in self._listeners.items() if saved.get(n) != one.saved]
            for one in stale:
                del self._listeners[one.name]
            kept = frozenset(self._listeners)
        for one in stale:
            one.ask_to_stop()
        for one in stale:
            one.stop()
        return kept

    def stop(self) -> None:
        """Stop all, together."""
        with self._lock:
            listeners = list(self._listeners.values())
            leaving = list(self._leaving.values())
            self._listeners.clear()
        for one in listeners:
            one.ask_to_stop()
        for one in listeners:
            one.stop()
        for thread in leaving:
            thread.join(STOP_SECONDS)

    def problem_of(self, name: str) -> FerryError | None:
        one = self._listeners.get(name)
        return one.problem if one is not None else None

    @property
    def count(self) -> int:
        """Nodes that listen, or try to."""
        return len(self._listeners)

    def landing(self) -> Landing | None:
        """The first of them, by name, to which a C-MOVE can bring images now."""
        with self._lock:
            listeners = sorted(self._listeners.values(), key=lambda one: one.name.casefold())
        return next((found for one in listeners if (found := one.landing) is not None), None)

    def _registered(self) -> dict[str, float]:
        """Those that shall listen, with the time at which each was saved."""
        names = self._names()
        saved = self._ledger.nodes_saved() if names else {}
        return {name: saved[name] for name in names if name in saved}

    def _tell(self, listener: Listener) -> None:
        problem, name = listener.problem, listener.name
        if problem is None:
            self._on_event(NodeChanged(name, NodeHealth.WORKS, datetime.now().astimezone()))
        else:
            self._on_event(NodeChanged(name, NodeHealth.DOWN, listener.since, problem.sentence, problem.next_step))
        try:
            if problem is None:
                self._ledger.add_log(LogLevel.INFO, f"{name} listens.", node=name)
            else:
                self._ledger.add_log(LogLevel.WARNING, str(problem), node=name, detail=problem.detail)
        except LedgerError as error:  # it listens all the same; the engine tells of the ledger's trouble
            log.warning("%s: %s", name, error)
