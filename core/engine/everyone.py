"""Jobs that send to all whom a server knows: kept current while they follow, and never back to the sender."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.model.errors import FerryError
from core.model.everyone import Expand, Expanded
from core.model.study import InstanceRef
from core.nodes.base import Node, Senders

log = logging.getLogger(__name__)

LOOK_EVERY = 30.0  # seconds between two looks whom a server knows


@dataclass(frozen=True, slots=True)
class Share:
    """Instances that go to the same destinations; none where all of them came from the only one."""

    destinations: tuple[str, ...]
    instances: Sequence[InstanceRef]


class NeverBack:
    """Which destinations each instance is planned for: not those modalities that sent it to the source.

    A destination that was chosen by its own name gets everything.

    Parameters
    ----------
    source : Node
    destinations : tuple[str, ...]
    titles : dict[str, str]
        AE titles of those that are destinations because a server knows them.
    """

    def __init__(self, source: Node, destinations: Sequence[str], titles: dict[str, str]) -> None:
        self._source = source
        self._destinations = tuple(destinations)
        self._titles = titles

    def shares(self, page: Sequence[InstanceRef]) -> list[Share]:
        if not self._titles or not page or not isinstance(self._source, Senders):
            return [Share(self._destinations, page)]
        senders = self._source.senders(page)
        by_sender: dict[str, list[InstanceRef]] = {}
        for ref in page:
            by_sender.setdefault(senders.get(ref.sop_uid, ""), []).append(ref)
        found: dict[tuple[str, ...], list[InstanceRef]] = {}
        for sender, refs in by_sender.items():
            others = tuple(n for n in self._destinations if not sender or self._titles.get(n) != sender)
            found.setdefault(others, []).extend(refs)
        return [Share(destinations, refs) for destinations, refs in found.items()]


class EveryoneWatch:
    """Looks now and then whether a server knows the same others still; one for each job that follows.

    Attributes
    ----------
    changed : bool
        It knows others by now: the job begins anew with them.
    """

    def __init__(self, expand: Expand, destinations: Sequence[str], sources: Sequence[str], now: Expanded) -> None:
        self.changed = False
        self._ask: Callable[[], Expanded] = lambda: expand(destinations, sources, register=True)
        self._now = now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="everyone", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            try:
                found = self._ask()
            except FerryError as error:  # the lane or the planner says what is wrong with that server
                log.info("whom a server knows can't be asked now: %s", error.sentence)
                continue
            if found != self._now:
                self.changed = True
                return
