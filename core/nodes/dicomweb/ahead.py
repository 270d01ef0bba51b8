"""Whole series fetched with one request: one for each image costs service and network more than a list of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.study import InstanceRef
from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.series_stream import (
    LARGEST,
    Blocks,
    Image,
    NotOfferedError,
    Series,
    SeriesStream,
    TooLargeError,
)
from core.nodes.dicomweb.speed import Speed
from core.wire.abort import Abort

log = logging.getLogger(__name__)

SMALL = 64 << 10
"""Bytes of an image, of late, up to which its series is fetched with one request: the way there is what takes time."""
MIDDLING = 768 << 10
"""Bytes up to which it is where that is as fast as fetching several images at once (slow lines may not be)."""
SHELF = 32 << 20
"""Bytes that wait to be asked for; beyond that the oldest go, and are fetched again by themselves."""
_ENOUGH = 8 << 20  # bytes that wait, from which on a series is read on only when something of it is asked for
_FEWEST = 8  # images of a series that are expected, from which on it is fetched whole
_SHARE = 20  # of which at least one is expected among so many of the series, if it is of small images
_HALF = 2  # and of others
_PLANNED = 300  # images of a series that are expected at most when the first of them is asked for: others follow
_STRANGERS = 48  # larger images that come unwanted, and one more for four that came, until it is given up
_AS_FAST = 0.7  # of the speed of single images that a series has to have
_TRY_AGAIN = 16  # series after which the slower way is tried once more
_LOOK = 0.1  # seconds between two looks at the abort switch
_REST = 5.0  # seconds after which a series that nobody reads on gives its connection back
_MOST_EXPECTED = 5000
_MOST_DONE = 100


class SeriesAhead:
    """Gives images of series one by one that came together. Thread-safe; has no threads of its own.

    Parameters
    ----------
    accept : str
        Of the request, with the transfer syntax as it is kept.
    """

    def __init__(self, access: DicomwebAccess, accept: str) -> None:
        self._access = access
        self._accept = accept
        self._lock = threading.Lock()
        self._expected: dict[str, InstanceRef] = {}
        self._awaited: dict[str, threading.Condition] = {}  # by images that somebody waits for
        self._shelf: dict[str, Image] = {}
        self._held = 0
        self._blocks = Blocks()
        self._streams: dict[Series, SeriesStream] = {}
        self._done: dict[Series, None] = {}  # fetched already: what is still wanted of them is fetched by itself
        self._mean: float | None = None
        self._singly = Speed()
        self._together = Speed()
        self._slower = 0  # series that were fetched singly because that is faster
        self._offered = True
        self._in_order = True  # images come in the order in which they are listed
        self._closed = False

    def expect(self, instances: Sequence[InstanceRef]) -> None:
        """These will be asked for soon."""
        with self._lock:
            for one in instances:
                self._expected[one.sop_uid] = one
            while len(self._expected) > _MOST_EXPECTED:
                self._expected.pop(next(iter(self._expected)))

    def learn(self, size: int) -> None:
        """An image is of so many bytes."""
        with self._lock:
            self._mean = size if self._mean is None else self._mean * 0.8 + size * 0.2

    def single_begins(self) -> None:
        """An image is fetched by itself from now on."""
        with self._lock:
            self._singly.begin()

    def single_ends(self, size: int) -> None:
        """It is here; 0 bytes where it isn't."""
        with self._lock:
            if size:
                self._singly.came(size)
            self._singly.end()

    def take(self, instance: InstanceRef, abort: Abort | None) -> Image | None:
        """The file of an image that came with its series; None where it is to be fetched by itself.

        Raises
        ------
        TransportError
            ``ABORTED``.
        """
        key = (instance.study_uid, instance.series_uid)
        while True:
            with self._lock:
                self._expected.pop(instance.sop_uid, None)
                found = self._shelf.pop(instance.sop_uid, None)
                if found is not None:
                    self._held -= len(found.body)
                    return found
                stream = self._streams.get(key)
                if stream is None:
                    self._give_back_idle()
                    if not self._is_worth_it(instance, key):
                        return None
                    stream = self._streams[key] = SeriesStream(key, self._blocks)
                elif instance.sop_uid in stream.passed:
                    return None
                if stream.busy:
                    self._wait(instance.sop_uid)
                    if abort is not None:
                        abort.check()
                    continue
                stream.busy = True
                self._together.begin()
            self._read_on(stream, instance.sop_uid, abort)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._shelf.clear()
            self._expected.clear()
            self._blocks.clear()
            self._held = 0
            for stream in self._streams.values():
                if not stream.busy:
                    stream.close()
            self._wake_all()

    # --- inside; under the lock ---

    def _is_worth_it(self, instance: InstanceRef, key: Series) -> bool:
        if self._closed or not self._offered or self._mean is None or self._mean > MIDDLING or key in self._done:
            return False
        if len(self._streams) >= max(1, self._access.pool.limit // 4) or self._access.pool.limit < 2:
            return False
        expected = 1 + sum(one.series_uid == instance.series_uid for one in self._expected.values())
        count = instance.series.instance_count if instance.series is not None else None
        if expected < _FEWEST:
            return False
        if self._mean <= SMALL:
            return count is None or expected * _SHARE >= count
        if count is not None and expected * _HALF < min(count, _PLANNED):
            return False
        if not self._in_order and expected * self._mean > SHELF // 2:
            return False
        return self._is_as_fast(key)

    def _is_as_fast(self, key: Series) -> bool:
        """Whether a series comes as fast as the same images would singly, several at once; unknown is tried."""
        together, singly = self._together.rate, self._singly.rate
        if singly is None:
            return False  # the first ones tell
        if together is None or together >= _AS_FAST * singly:
            return True
        self._end(key)
        self._slower += 1
        if self._slower % _TRY_AGAIN == 0:
            self._together.forget()
        return False

    def _give_back_idle(self) -> None:
        now = time.monotonic()
        for key, stream in list(self._streams.items()):
            if not stream.busy and now - stream.since > _REST:
                self._end(key)

    def _end(self, key: Series) -> None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            stream.close()
        self._done[key] = None
        while len(self._done) > _MOST_DONE:
            self._done.pop(next(iter(self._done)))

    def _wait(self, uid: str) -> None:
        """Until this image comes, or nobody reads its series any more, or for a moment."""
        waiting = self._awaited.setdefault(uid, threading.Condition(self._lock))
        waiting.wait(_LOOK)
        self._awaited.pop(uid, None)

    def _wake_all(self) -> None:
        for waiting in self._awaited.values():
            waiting.notify_all()

    def _put(self, stream: SeriesStream, image: Image) -> bool:
        """Keep an image until it is asked for; False where others of its series had to go for it."""
        self._shelf[image.uid] = image
        self._held += len(image.body)
        waiting = self._awaited.get(image.uid)
        if waiting is not None:
            waiting.notify_all()
        fits = True
        while self._held > SHELF:
            gone = self._shelf.pop(next(iter(self._shelf)))
            self._held -= len(gone.body)
            gone.give_back()
            fits = fits and gone.series != stream.key
        return fits

    def _is_wanted(self, stream: SeriesStream, image: Image, wanted: str) -> bool:
        """Small images are kept in any case: they may be announced only later."""
        if image.uid == wanted or image.uid in self._expected or image.uid in self._awaited:
            return True
        if len(image.body) <= SMALL:
            return True
        stream.strangers += 1
        return False

    def _goes_on(self, stream: SeriesStream, image: Image, wanted: str) -> bool:
        """An image has come: put it where it belongs; whether the series is worth reading any further."""
        self._together.came(len(image.body))
        self._mean = len(image.body) if self._mean is None else self._mean * 0.95 + len(image.body) * 0.05
        if not self._is_wanted(stream, image, wanted):
            image.give_back()
            return stream.strangers <= _STRANGERS + len(stream.passed) // 4
        fits = self._put(stream, image)
        if not fits and len(image.body) > SMALL:
            self._in_order = False
            return False
        return True

    # --- reading, by the thread that wants something of the series ---

    def _read_on(self, stream: SeriesStream, wanted: str, abort: Abort | None) -> None:
        """Read until there is enough for now; what came is on the shelf then."""
        ended = True
        try:
            if not stream.is_open:
                stream.open(self._access, self._accept, abort)
            come = False
            while (image := stream.next()) is not None:
                come = come or image.uid == wanted
                with self._lock:
                    if self._closed or not self._goes_on(stream, image, wanted):
                        return
                    if come and self._held > _ENOUGH:
                        ended = False
                        return
        except NotOfferedError as error:
            log.info("%s: its series are not fetched whole: %s", self._access.node, error)
            self._offered = False
        except TooLargeError:
            self.learn(LARGEST)
        except FerryError as error:
            if isinstance(error, TransportError) and error.fault is TransportFault.ABORTED:
                raise
            log.info("%s: a series did not come whole (%s)", self._access.node, error.code)
        finally:
            with self._lock:
                self._together.end()
                stream.busy = False
                stream.since = time.monotonic()
                if ended or self._closed:
                    self._end(stream.key)
                self._wake_all()
