"""The threads of a lane: as many as have something to do, up to its width."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from core.model import clock
from core.model.errors import FerryError, LedgerError

log = logging.getLogger(__name__)

LOOK_AGAIN = 5.0  # seconds after which an idle worker looks anyway
PAUSE_STEP = 0.2  # and so often whoever waits for something outside

Work = Callable[[], None]


class Workers(ABC):
    """Does work that its subclass chooses; what was begun is ended before anything new (`finish`).

    Parameters
    ----------
    width : int
        Threads that are busy at a time, beside those that `_beside` allows for.
    """

    def __init__(self, name: str, width: int) -> None:
        self.name = name
        self.width = width
        lock = threading.RLock()
        self._cond = threading.Condition(lock)
        self._pauses = threading.Condition(lock)  # who waits for something outside takes no worker's wake-up
        self._finish: deque[Work] = deque()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._ended = False

    @abstractmethod
    def _choose(self) -> Work | None:
        """What to do next; called under the lock."""

    @abstractmethod
    def _failed(self, error: FerryError) -> None:
        """Work ended in an error that it had no answer to."""

    @abstractmethod
    def _at_rest_now(self) -> None:
        """Told by the thread that ended its work while no other had any, which may have changed since."""

    @property
    @abstractmethod
    def _beside(self) -> int:
        """Threads that wait for something long, and so don't count against the width."""

    @property
    @abstractmethod
    def _has_more(self) -> bool:
        """Whether another thread would find something to do."""

    @property
    @abstractmethod
    def _has_begun(self) -> bool:
        """Whether something is begun that will bring more work, so that no thread may end."""

    @abstractmethod
    def _next_time(self) -> float | None:
        """When (seconds since 1970) there will be something to do at the latest; None when that isn't known."""

    def finish(self, work: Work) -> None:
        """Have a worker do something soon, even while nothing new may start (confirming, deleting)."""
        with self._cond:
            self._finish.append(work)
            self._wake()

    def end(self) -> None:
        """Let the workers end once what they hold is done."""
        with self._cond:
            self._ended = True
            self._cond.notify_all()
            self._pauses.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait for the workers; False when some are still held up."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _wake(self) -> None:
        idle = len(self._threads) - self._busy
        if not self._ended and idle <= 0 and len(self._threads) < self.width + self._beside:
            thread = threading.Thread(target=self._work, name=f"{self.name}-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._cond.notify()

    def _pause(self, seconds: float, while_true: Callable[[], bool]) -> bool:
        """Wait for so long while something holds; False when it no longer did, or the workers were to end."""
        until = clock.monotonic() + seconds
        with self._cond:
            while not self._ended and while_true():
                left = until - clock.monotonic()
                if left <= 0:
                    return True
                self._pauses.wait(min(left, PAUSE_STEP))
            self._pauses.wait(max(0.0, min(0.05, until - clock.monotonic())))
        return False

    def _work(self) -> None:
        while True:
            work = self._next()
            if work is None:
                return
            try:
                work()
            except LedgerError as error:
                self._failed(error)
            except FerryError as error:
                log.warning("lane %s: %s", self.name, error.sentence)
                self._failed(error)
            except Exception as error:
                log.exception("lane %s", self.name)
                self._failed(
                    FerryError(
                        "Something went wrong inside DICOM Ferry; this transfer stopped.",
                        "Start it again; what is confirmed stays confirmed. Send the support bundle to your IT.",
                        detail=repr(error),
                        code="internal",
                    )
                )
            finally:
                with self._cond:
                    self._busy -= 1
                    rest = not self._busy
                    self._cond.notify_all() if self._ended else self._cond.notify()
                if rest:
                    self._at_rest_now()

    def _next(self) -> Work | None:
        with self._cond:
            while True:
                work = self._finish.popleft() if self._finish else self._choose()
                if work is not None:
                    self._busy += 1
                    if self._has_more and len(self._threads) < self.width + self._beside:
                        self._wake()
                    return work
                if self._ended and not self._has_begun:
                    return None
                due = self._next_time()
                self._cond.wait(LOOK_AGAIN if due is None else min(LOOK_AGAIN, max(0.01, due - clock.time())))
