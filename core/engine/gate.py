"""A node as the engine holds it: opened once, its health, and probing while it is down."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from core.engine.retry import WHOLE_NODE, delay_after
from core.model import clock
from core.model.errors import FerryError
from core.model.events import NodeHealth
from core.model.outcome import Failure, FailureClass
from core.nodes.base import Node

log = logging.getLogger(__name__)

PROBE_SECONDS = 30.0
LONGEST_ASKED = 600.0  # seconds that a node may ask for at a time
LONGEST_EXCUSED = 3600.0


class Gate:
    """Open while the node works. Closed, nothing but a probe goes to it: one connection every 30 s at most.

    Where a person must act (login refused), the probes follow the job's growing delays instead.

    Attributes
    ----------
    failure : Failure | None
        Why it is closed.
    down_since : float | None
        Monotonic seconds. A node that answers a probe and then fails again, with nothing done in between, is
        down since the first time.
    excused : float
        Seconds of being down for which the node itself asked (``Retry-After``): nobody's patience runs out in them.
    """

    def __init__(self, node: Node, on_change: Callable[[Gate], None]) -> None:
        self.node = node
        self.failure: Failure | None = None
        self.down_since: float | None = None
        self.excused = 0.0
        self.health = NodeHealth.UNKNOWN
        self._on_change = on_change
        self._lock = threading.Lock()
        self._next_probe = 0.0
        self._probes = 0
        self._probing = False
        self._failing_since: float | None = None
        self._opened = 0.0
        self._pushes = 0
        self._seen = -math.inf  # when it was last known to work

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def is_open(self) -> bool:
        return self.down_since is None

    def begin_push(self, most: int) -> bool:
        """Count one more study that the node sends by itself and that is not confirmed yet, of at most `most`.

        All jobs count together: the node has to bear them together.
        """
        with self._lock:
            if self._pushes >= most:
                return False
            self._pushes += 1
            return True

    def end_push(self) -> None:
        """It is confirmed, or given up."""
        with self._lock:
            self._pushes -= 1

    def worked(self) -> None:
        """Something succeeded there."""
        self._failing_since = None
        self._seen = clock.monotonic()
        if self.health is not NodeHealth.WORKS and self.is_open:
            self.health = NodeHealth.WORKS
            self._on_change(self)

    def close(self, failure: Failure, delays: tuple[float, ...] = (PROBE_SECONDS,)) -> None:
        """The node is down, or needs a person: stop going there and probe it."""
        with self._lock:
            if self.down_since is not None:
                return
            self.failure = failure
            self.health = NodeHealth.DOWN
            now = clock.monotonic()
            steady = now - self._opened > PROBE_SECONDS + 2 * delays[0]
            if self._failing_since is None or steady:
                self._failing_since = now
                self.excused = 0.0
                self._probes = 0
            self.down_since = self._failing_since
            self._delays = delays
            self._schedule(failure)
        self._on_change(self)

    def probe_if_due(self) -> None:
        """Start a probe on a thread of its own when it is time for one; it may hang without harm."""
        with self._lock:
            if self.is_open or self._probing or clock.monotonic() < self._next_probe:
                return
            self._probing = True
        threading.Thread(target=self._probe, name=f"probe-{self.name}", daemon=True).start()

    def ask_if_idle(self, seconds: float) -> None:
        """Ask a node that nobody has used for so long whether it is there, on a thread of its own."""
        with self._lock:
            if not self.is_open or self._probing or clock.monotonic() - self._seen < seconds:
                return
            self._probing = True
        threading.Thread(target=self._ask, name=f"ask-{self.name}", daemon=True).start()

    def _ask(self) -> None:
        failure: Failure | None = None
        try:
            self.node.probe()
        except FerryError as error:
            failure = self.node.failure(error, "")
        except Exception:
            log.exception("asking %s", self.name)
        else:
            self.worked()
        with self._lock:
            self._probing = False
            self._seen = clock.monotonic()
        if failure is not None and failure.cls in WHOLE_NODE:
            self.close(failure)

    def probe_soon(self) -> None:
        """Forget how long it was to be left alone: the computer has slept, or its clock was set."""
        with self._lock:
            if not self.is_open:
                self._next_probe = min(self._next_probe, clock.monotonic())

    def _probe(self) -> None:
        try:
            self.node.probe()
        except FerryError as error:
            self._still_closed(self.node.failure(error, ""))
            return
        except Exception as error:
            log.exception("probing %s", self.name)
            words = f"Something went wrong inside DICOM Ferry while it asked {self.name} whether it is there."
            step = "It is tried again; send the support bundle to your IT."
            self._still_closed(Failure("internal", FailureClass.DOWN, words, step, repr(error)))
            return
        with self._lock:
            self._probing = False
            self._opened = clock.monotonic()
            self.down_since = None
            self.failure = None
            self.health = NodeHealth.WORKS
        self._on_change(self)

    def _still_closed(self, failure: Failure) -> None:
        with self._lock:
            self.failure = failure
            self._schedule(failure)
            self._probing = False

    def _schedule(self, failure: Failure) -> None:
        self._probes += 1
        wait = delay_after(self._probes, self._delays)
        if failure.cls is not FailureClass.PERSON:  # a wrong password asked over and over locks an account
            wait = min(PROBE_SECONDS, wait)
        asked = min(failure.retry_after or 0.0, LONGEST_ASKED)
        self.excused = min(self.excused + asked, LONGEST_EXCUSED)
        self._next_probe = clock.monotonic() + max(wait, asked, 0.05)
