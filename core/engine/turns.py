"""Work on whole studies that takes long and waits for its turn, and transfers that wait for a time."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Protocol

from core.ledger.rows import TransferTask


class Stage(Protocol):
    """One kind of such work: a C-MOVE of a study, a storage commitment. Few of them at a time."""

    def begin(self) -> bool:
        """Take a place for one more; False while there is none."""

    def run(self, task: TransferTask, stopped: Callable[[], bool]) -> None:
        """Do it; `stopped` tells when the study was taken out of the lane meanwhile."""

    def end(self) -> None:
        """Give the place back."""


class Turns:
    """Transfers that wait for a place in their stage, first come first served. Not thread-safe: the lane's lock is.

    Attributes
    ----------
    running : int
        How many are at work: they don't count against the lane's width.
    """

    def __init__(self) -> None:
        self.running = 0
        self._waiting: dict[int, tuple[Stage, deque[int]]] = {}  # by the identity of the stage

    def __len__(self) -> int:
        return sum(len(queue) for _stage, queue in self._waiting.values())

    def transfers(self) -> list[int]:
        return [transfer_id for _stage, queue in self._waiting.values() for transfer_id in queue]

    def add(self, transfer_id: int, stage: Stage) -> None:
        self._waiting.setdefault(id(stage), (stage, deque()))[1].append(transfer_id)

    def prefer(self, transfer_id: int) -> None:
        """Let one go before all others that wait for the same."""
        for _stage, queue in self._waiting.values():
            if transfer_id in queue:
                queue.remove(transfer_id)
                queue.appendleft(transfer_id)

    def remove(self, transfer_id: int) -> None:
        for _stage, queue in self._waiting.values():
            if transfer_id in queue:
                queue.remove(transfer_id)

    def take(self) -> tuple[int, Stage] | None:
        """The first whose stage has a place, which it then holds."""
        for stage, queue in self._waiting.values():
            if queue and stage.begin():
                self.running += 1
                return queue.popleft(), stage
        return None


class Timers:
    """Transfers that wait for a time. Not thread-safe: the lane's lock is."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        self._due: dict[int, float] = {}
        self._ids = itertools.count()

    def __len__(self) -> int:
        return len(self._due)

    def transfers(self) -> list[int]:
        return list(self._due)

    def set(self, transfer_id: int, due: float) -> None:
        """Wake at `due` (seconds since 1970), and at no other time set before."""
        self._due[transfer_id] = due
        heapq.heappush(self._heap, (due, next(self._ids), transfer_id))

    def remove(self, transfer_id: int) -> None:
        self._due.pop(transfer_id, None)

    @property
    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[int]:
        """Those whose time has come, in its order; they wait no longer."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            due, _n, transfer_id = heapq.heappop(self._heap)
            if self._due.get(transfer_id) == due:
                del self._due[transfer_id]
                found.append(transfer_id)
        return found
