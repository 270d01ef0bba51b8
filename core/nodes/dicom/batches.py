"""Fetching images in batches ahead of their reading: a request costs a node more than the image that it brings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.study import InstanceRef
from core.nodes.dicom.shelf import Held, Shelf
from core.wire.abort import Abort

_LOOK = 0.1  # seconds between two looks at the abort switch
_SLOW = 0.1  # seconds of waiting for one image after which the next ones are fetched beside it
_MOST_EXPECTED = 5000  # that are remembered; what was never read is forgotten by then
_MOST_KEPT = 1000  # images that may lie on the shelf unread before the oldest go: whoever wanted them has stopped

FIRST_BATCH = 8  # as long as nothing is known about the size of the node's images
LARGEST_BATCH = 100
BATCH_BYTES = 32 << 20

Fetch = Callable[[Sequence[InstanceRef], Callable[[Held], None], Abort | None], dict[str, FerryError]]
"""Fetch these images of one series, giving each as it arrives; the reasons for those that did not, by SOP Instance UID.

Raises what stopped it all.
"""


@dataclass(slots=True)
class _Batch:
    """Images that one thread is fetching; the errors of those that did not come."""

    left: set[str]
    errors: dict[str, FerryError] = field(default_factory=dict)
    stopped: FerryError | None = None


class BatchReader:
    """Gives images one by one that were fetched together. Thread-safe; has no threads of its own.

    Whoever wants an image that is not here fetches it, together with those of its series that are expected to be
    wanted next; meanwhile the others take theirs as they arrive. Where that takes long, as over a line with much
    delay or at an archive that first looks for its tapes, who waits fetches what is expected after that.

    Parameters
    ----------
    parallel : int
        Batches that may be under way at a time.
    """

    def __init__(self, shelf: Shelf, fetch: Fetch, *, parallel: int = 1) -> None:
        self._shelf = shelf
        self._fetch = fetch
        self._cond = threading.Condition()
        self._expected: dict[str, InstanceRef] = {}  # in the order in which they will be wanted
        self._under_way: dict[str, _Batch] = {}
        self._unread: dict[str, None] = {}  # on the shelf, oldest first
        self._wanted: dict[str, int] = {}  # how many threads wait for it
        self._parallel = parallel
        self._running = 0
        self._mean = 0.0  # bytes of an image here, of late
        self._closed = False

    def expect(self, instances: Sequence[InstanceRef]) -> None:
        """These will be wanted soon, in this order. A guess that proves wrong costs a transfer, nothing else."""
        with self._cond:
            for one in instances:
                self._expected.pop(one.sop_uid, None)
                if one.sop_uid not in self._under_way and one.sop_uid not in self._unread:
                    self._expected[one.sop_uid] = one
            while len(self._expected) > _MOST_EXPECTED:
                del self._expected[next(iter(self._expected))]

    def take(self, instance: InstanceRef, abort: Abort | None) -> Held:
        """The image, fetched now where it is not here yet; give it to `give_back` in the end.

        Raises
        ------
        FerryError
            Why it is not to be had.
        """
        uid = instance.sop_uid
        with self._cond:
            self._wanted[uid] = self._wanted.get(uid, 0) + 1
        try:
            while True:
                batch, asked = self._find_or_claim(instance, abort)
                if isinstance(batch, Held):
                    return batch
                self._run(batch, asked, abort)
                if all(one.sop_uid != uid for one in asked):
                    if batch.stopped is not None:
                        self._parallel = 1  # it won't have several at once
                    continue
                error = batch.errors.get(uid) or batch.stopped
                with self._cond:
                    held = self._pop(uid)
                if held is not None:
                    return held
                if error is not None:
                    raise error
        finally:
            with self._cond:
                self._wanted[uid] -= 1
                if not self._wanted[uid]:
                    del self._wanted[uid]

    def _find_or_claim(
        self, instance: InstanceRef, abort: Abort | None
    ) -> tuple[Held, Sequence[InstanceRef]] | tuple[_Batch, Sequence[InstanceRef]]:
        """The image where it is here or arrives with another thread's batch; else a batch of our own to fetch."""
        uid = instance.sop_uid
        since = time.monotonic()
        with self._cond:
            while True:
                if abort is not None:
                    abort.check()
                if self._closed:
                    raise TransportError(TransportFault.ABORTED, "The node was closed.")
                held = self._pop(uid)
                if held is not None:
                    return held, ()
                batch = self._under_way.get(uid)
                if batch is None:
                    return self._claim(instance)
                slow = time.monotonic() - since >= _SLOW
                if slow and self._expected and self._running < self._parallel and len(self._unread) < _MOST_KEPT // 2:
                    return self._claim(next(iter(self._expected.values())))
                self._cond.wait(_LOOK)
                if self._under_way.get(uid) is not batch and uid not in self._unread:
                    self._raise_for(batch, uid)

    def _raise_for(self, batch: _Batch, uid: str) -> None:
        """Another thread's batch ended without our image: its reason is ours, unless that thread was only stopped."""
        error = batch.errors.get(uid) or batch.stopped if uid in batch.left else None
        if error is None or (isinstance(error, TransportError) and error.fault is TransportFault.ABORTED):
            return
        raise error

    def _pop(self, uid: str) -> Held | None:
        if uid not in self._unread:
            return None
        del self._unread[uid]
        return self._shelf.take(uid)

    def _claim(self, instance: InstanceRef) -> tuple[_Batch, Sequence[InstanceRef]]:
        uid = instance.sop_uid
        self._expected.pop(uid, None)
        asked = [instance]
        most = self._size()
        for other in list(self._expected.values()) if most > 1 else ():
            if len(asked) == most:
                break
            if other.series_uid != instance.series_uid or other.study_uid != instance.study_uid:
                continue
            if other.sop_uid not in self._under_way and other.sop_uid not in self._unread:
                asked.append(other)
            del self._expected[other.sop_uid]
        self._running += 1
        batch = _Batch({one.sop_uid for one in asked})
        for one in asked:
            self._under_way[one.sop_uid] = batch
        return batch, asked

    def _size(self) -> int:
        by_bytes = int(BATCH_BYTES / self._mean) if self._mean else FIRST_BATCH
        return max(1, min(by_bytes, LARGEST_BATCH))

    def _run(self, batch: _Batch, asked: Sequence[InstanceRef], abort: Abort | None) -> None:
        try:
            batch.errors.update(self._fetch(asked, lambda held: self._arrived(batch, held), abort))
        except FerryError as error:
            batch.stopped = error
        finally:
            with self._cond:
                self._running -= 1
                for one in asked:
                    if self._under_way.get(one.sop_uid) is batch:
                        del self._under_way[one.sop_uid]
                    came = one.sop_uid in self._unread or one.sop_uid not in batch.left
                    if not came and one.sop_uid not in self._wanted and one.sop_uid not in batch.errors:
                        self._expected.setdefault(one.sop_uid, one)
                self._cond.notify_all()

    def _arrived(self, batch: _Batch, held: Held) -> None:
        uid = held.sop_uid
        size = held.length or 0
        with self._cond:
            self._mean = size if not self._mean else self._mean * 0.9 + size * 0.1
            batch.left.discard(uid)
            if self._closed:
                self._shelf.drop(held)
                return
            self._shelf.put(held)
            self._unread.pop(uid, None)
            self._unread[uid] = None
            if self._under_way.get(uid) is batch:
                del self._under_way[uid]
            while len(self._unread) > _MOST_KEPT:
                self._forget(next(iter(self._unread)))
            self._cond.notify_all()

    def _forget(self, uid: str) -> None:
        held = self._pop(uid)
        if held is not None:
            self._shelf.drop(held)

    def give_back(self, held: Held) -> None:
        self._shelf.drop(held)

    def close(self) -> None:
        with self._cond:
            self._closed = True
            self._expected.clear()
            self._unread.clear()
            self._cond.notify_all()
        with suppress(OSError):
            self._shelf.clear()
