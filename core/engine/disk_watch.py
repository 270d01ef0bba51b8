"""Pausing what goes to a destination while its disk is fuller than a job allows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from core.engine.gate import Gate
from core.model.disk import DiskLimit
from core.model.errors import FerryError
from core.nodes.base import DiskLevel, DiskUse

log = logging.getLogger(__name__)

LOOK_EVERY = 15.0  # seconds


class DiskWatch:
    """Asks one destination how full it is, on a thread of its own: it may hang without harm.

    Nothing is sent before the first answer. While it can't be asked, what it said last holds.

    Attributes
    ----------
    waiting : str
        Why nothing may be sent there, in a sentence; empty when there is room.
    """

    def __init__(self, gate: Gate, limit: DiskLimit, changed: Callable[[], None]) -> None:
        assert isinstance(gate.node, DiskUse), "refused before the start"
        self.waiting = f"Waiting: {gate.name} is asked how full its disk is."
        self._name = gate.name
        self._node: DiskUse = gate.node
        self._limit = limit
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"disk-{gate.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; returns at once."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                waiting = self._judge(self._node.disk_use())
            except FerryError as error:
                log.info("asking %s how full it is: %s", self._name, error.sentence)
            except Exception:
                log.exception("asking %s how full it is", self._name)
            else:
                if waiting != self.waiting:
                    self.waiting = waiting
                    self._changed()
            self._stop.wait(LOOK_EVERY)

    def _judge(self, level: DiskLevel) -> str:
        if self._limit.bytes is None and not level.capacity:
            return (
                f"Waiting: {self._name} doesn't say how large its disk is. Give the limit as a size (such as 500 GB) "
                "instead of percent."
            )
        if not self._limit.reached(level.used, level.capacity):
            return ""
        if level.capacity:
            return f"Waiting: {self._name}'s disk is {level.used * 100 / level.capacity:.0f} % full."
        return f"Waiting: {self._name}'s disk holds {level.used / 1e9:,.1f} GB."
