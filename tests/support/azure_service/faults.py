"""What a service of this kind does wrong now and then: outages, refusals, cut connections, lost answers, lies."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """How a request goes wrong."""

    STATUS = "status"  # an answer with another status, nothing done
    RESET_AT_ONCE = "reset-at-once"  # the connection is cut before the request is read
    RESET_IN_BODY = "reset-in-body"  # … in the middle of the upload: nothing is stored
    ANSWER_LOST = "answer-lost"  # everything is done, and the connection is cut instead of an answer
    HTML = "html"  # 200 with the page of a proxy
    PARTLY = "partly"  # the first image of a request is not stored (272), the others are
    FORGETS = "forgets"  # answers 200 and stores nothing


@dataclass(frozen=True, slots=True)
class Fault:
    """One request that goes wrong.

    Attributes
    ----------
    kind : FaultKind
    status : int
        For `FaultKind.STATUS`.
    retry_after : str
        Value of ``Retry-After``: seconds or an HTTP date; empty for none.
    on : str
        Which requests: "store", "search", "retrieve", "delete", "token", or "" for all but tokens.
    """

    kind: FaultKind
    status: int = 503
    retry_after: str = ""
    on: str = ""

    def hits(self, operation: str) -> bool:
        return operation == self.on or (not self.on and operation != "token")


#: What random faults are drawn from: each may pass by itself.
PASSING = (
    Fault(FaultKind.STATUS, 503, retry_after="1"),
    Fault(FaultKind.STATUS, 429, retry_after="1"),
    Fault(FaultKind.STATUS, 500),
    Fault(FaultKind.STATUS, 424),
    Fault(FaultKind.STATUS, 408),
    Fault(FaultKind.STATUS, 502),
    Fault(FaultKind.STATUS, 401),
    Fault(FaultKind.RESET_AT_ONCE),
    Fault(FaultKind.RESET_IN_BODY, on="store"),
    Fault(FaultKind.ANSWER_LOST, on="store"),
)


class Faults:
    """Which request goes wrong: those ordered, those in an outage, and some at random by a seed. Thread-safe.

    Attributes
    ----------
    rate : float
        Share of requests that go wrong at random, 0 to 1.
    """

    def __init__(self, clock: Callable[[], float], *, seed: int = 0, rate: float = 0.0) -> None:
        self.rate = rate
        self.kinds: tuple[Fault, ...] = PASSING
        self.met: list[tuple[str, Fault]] = []
        self._clock = clock
        self._random = random.Random(seed)
        self._ordered: deque[Fault] = deque()
        self._outages: list[tuple[float, float, Fault]] = []
        self._lock = threading.Lock()

    def order(self, fault: Fault, times: int = 1) -> None:
        """The next `times` requests that it hits go wrong so."""
        with self._lock:
            self._ordered.extend([fault] * times)

    def outage(self, begin: float, end: float, fault: Fault | None = None) -> None:
        """From `begin` to `end` by the clock every request, tokens included, goes wrong so (cut at once)."""
        with self._lock:
            self._outages.append((begin, end, fault or Fault(FaultKind.RESET_AT_ONCE)))

    def clear(self) -> None:
        """Everything works from now on."""
        with self._lock:
            self.rate = 0.0
            self._ordered.clear()
            self._outages.clear()

    def of(self, operation: str) -> Fault | None:
        """How this request goes wrong; None when it doesn't."""
        with self._lock:
            found = self._of(operation)
            if found is not None:
                self.met.append((operation, found))
            return found

    def _of(self, operation: str) -> Fault | None:
        now = self._clock()
        for begin, end, fault in self._outages:
            if begin <= now < end:
                return fault
        for fault in self._ordered:
            if fault.hits(operation):
                self._ordered.remove(fault)
                return fault
        if self.rate and self._random.random() < self.rate:
            possible = [fault for fault in self.kinds if fault.hits(operation)]
            return self._random.choice(possible) if possible else None
        return None
