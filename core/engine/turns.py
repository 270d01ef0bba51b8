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
        self._waiting: deque[tuple[int, Stage]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def transfers(self) -> list[int]:
        return [transfer_id for transfer_id, _stage in self._waiting]

    def add(self, transfer_id: int, stage: Stage) -> None:
        self._waiting.append((transfer_id, stage))

    def remove(self, transfer_id: int) -> bool:
        """Take one out; whether it was waiting."""
        kept = deque(item for item in self._waiting if item[0] != transfer_id)
        found = len(kept) != len(self._waiting)
        self._waiting = kept
        return found

    def take(self) -> tuple[int, Stage] | None:
        """The first whose stage has a place, which it then holds."""
        full: set[int] = set()
        for position, (transfer_id, stage) in enumerate(self._waiting):
            if id(stage) in full:
                continue
            if stage.begin():
                del self._waiting[position]
                self.running += 1
                return transfer_id, stage
            full.add(id(stage))
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
