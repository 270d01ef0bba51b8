"""How many associations a node may have at once: one limit for all its services, first come, first served."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from core.wire.abort import Abort
from core.wire.dimse.errors import NoTurn

PATIENCE = 600.0  # seconds to wait for one's turn; an association is in use as long as an exchange takes
_LOOK = 0.1  # seconds between two looks at the abort switch
_WAY = 5e-5  # seconds; a thread that was woken needs about as many
_RECOVERY = 60.0  # seconds without a complaint of the peer, after which one association more is tried

_T = TypeVar("_T")


class AssociationLimit:
    """Counts the associations of a node. Thread-safe.

    Attributes
    ----------
    most : int
        What the node is set to.
    lock : threading.Lock
        Guards the count, and what those who keep idle associations know about them.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.lock = threading.Lock()
        self._allowed = self.most
        self._held = 0
        self._raise_at = 0.0
        self._queue: deque[threading.Condition] = deque()
        self._keepers: list[Callable[[], Callable[[], None] | None]] = []

    @property
    def allowed(self) -> int:
        """How many may be open now: fewer than `most` for some time after the peer has complained."""
        return self._allowed

    @property
    def held(self) -> int:
        """How many are open, or being opened."""
        return self._held

    @contextmanager
    def take(self, *, abort: Abort | None = None, patience: float = PATIENCE) -> Iterator[None]:
        """Room for one association while the block runs.

        Raises
        ------
        NoTurn
            None got free in `patience` seconds.
        TransportError
            ``ABORTED``; `request_sent` is false.
        """
        dismiss = self.wait_for(self._room_or_idle, abort=abort, patience=patience)
        try:
            dismiss()
            yield
        finally:
            self.give_back()

    def keeper(self, take_idle: Callable[[], Callable[[], None] | None]) -> None:
        """Register somebody who keeps idle associations and gives one up when room is needed.

        `take_idle` is called under the lock; it returns what is to be called without the lock to end the
        association that it gave up, or None when it has none.
        """
        with self.lock:
            self._keepers.append(take_idle)

    def _room_or_idle(self) -> Callable[[], None] | None:
        if self.take_room():
            return _nothing
        for take_idle in self._keepers:
            dismiss = take_idle()
            if dismiss is not None:
                return dismiss
        return None

    def take_room(self) -> bool:
        """Count one more, if that is allowed now. Under the lock."""
        if self._allowed < self.most and time.monotonic() >= self._raise_at:
            self._allowed += 1
            self._raise_at = time.monotonic() + _RECOVERY
        if self._held >= self._allowed:
            return False
        self._held += 1
        return True

    def give_back(self) -> None:
        """Count one less."""
        with self.lock:
            self._held -= 1
            self.changed()

    def changed(self) -> None:
        """Wake whoever's turn it is. Under the lock."""
        if self._queue:
            self._queue[0].notify()

    def make_way(self) -> None:
        """Let whoever was woken go first: while the peer is busy with what he sends, there is time for the rest.

        Else this thread would keep the interpreter to itself until it waits for something.
        """
        if self._queue:
            time.sleep(_WAY)

    def fewer(self) -> bool:
        """The peer complained of too many: allow no more than are open now.

        Returns
        -------
        bool
            False when none is open, so that there is nothing to wait for.
        """
        with self.lock:
            self._allowed = max(1, min(self._allowed, self._held))
            self._raise_at = time.monotonic() + _RECOVERY
            return self._held > 0

    def strained(self) -> None:
        """The peer is out of resources: allow one less than are open now."""
        with self.lock:
            self._allowed = max(1, min(self._allowed, self._held - 1))
            self._raise_at = time.monotonic() + _RECOVERY

    def wait_for(self, attempt: Callable[[], _T | None], *, abort: Abort | None, patience: float = PATIENCE) -> _T:
        """What `attempt` gives once it is not None. It is called under the lock, when it is one's turn."""
        with self.lock:
            if not self._queue:
                found = attempt()
                if found is not None:
                    return found
            turn = threading.Condition(self.lock)
            self._queue.append(turn)
            try:
                return self._wait(turn, attempt, abort, patience)
            finally:
                self._queue.remove(turn)
                self.changed()

    def _wait(
        self, turn: threading.Condition, attempt: Callable[[], _T | None], abort: Abort | None, patience: float
    ) -> _T:
        deadline = time.monotonic() + patience
        while True:
            if abort is not None:
                abort.check()
            if self._queue[0] is turn:
                found = attempt()
                if found is not None:
                    return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoTurn(self._allowed, patience)
            turn.wait(min(left, 1.0 if abort is None else _LOOK))


def _nothing() -> None:
    """There is no idle association to be ended."""
