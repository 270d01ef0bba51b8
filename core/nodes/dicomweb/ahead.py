"""Whole series fetched with one request, where a request costs the service more than the small image that it brings."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.study import InstanceRef
from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.base import series_path
from core.wire.abort import Abort
from core.wire.dimse.file_meta import NotAFileError, split_head
from core.wire.http import Response
from core.wire.multipart import MultipartReader, Part, media_type

log = logging.getLogger(__name__)

SMALL = 64 << 10
"""Bytes of an image, of late, up to which its series is fetched with one request."""
LARGEST = 1 << 20
"""Bytes of an image that ends the fetching of its series: the others are then fetched one by one."""
SHELF = 32 << 20
"""Bytes that wait to be asked for; beyond that the oldest go, and are fetched again by themselves."""
_ENOUGH = 8 << 20  # bytes that wait, from which on a series is read on only when something of it is asked for
_FEWEST = 8  # images of a series that are expected, from which on it is fetched whole
_SHARE = 20  # of which at least one is expected among so many of the series
_LOOK = 0.1  # seconds between two looks at the abort switch
_REST = 5.0  # seconds after which a series that nobody reads on gives its connection back
_MOST_EXPECTED = 5000

Series = tuple[str, str]
"""Study and Series Instance UID."""


class SeriesAhead:
    """Gives images of short ones' series one by one that came together. Thread-safe; has no threads of its own.

    Parameters
    ----------
    accept : str
        Of the request, with the transfer syntax as it is kept.
    """

    def __init__(self, access: DicomwebAccess, accept: str) -> None:
        self._access = access
        self._accept = accept
        self._cond = threading.Condition()
        self._expected: dict[str, InstanceRef] = {}
        self._shelf: dict[str, bytes] = {}
        self._held = 0
        self._streams: dict[Series, SeriesStream] = {}
        self._done: dict[Series, None] = {}  # fetched already: what is still wanted of them is fetched by itself
        self._mean: float | None = None
        self._offered = True
        self._closed = False

    def expect(self, instances: Sequence[InstanceRef]) -> None:
        """These will be asked for soon."""
        with self._cond:
            for one in instances:
                self._expected[one.sop_uid] = one
            while len(self._expected) > _MOST_EXPECTED:
                self._expected.pop(next(iter(self._expected)))

    def learn(self, size: int) -> None:
        """An image of so many bytes was fetched by itself."""
        with self._cond:
            self._mean = size if self._mean is None else self._mean * 0.8 + size * 0.2

    def take(self, instance: InstanceRef, abort: Abort | None) -> bytes | None:
        """The file of an image that came with its series; None where it is to be fetched by itself.

        Raises
        ------
        TransportError
            ``ABORTED``.
        """
        key = (instance.study_uid, instance.series_uid)
        while True:
            with self._cond:
                self._expected.pop(instance.sop_uid, None)
                found = self._shelf.pop(instance.sop_uid, None)
                if found is not None:
                    self._held -= len(found)
                    return found
                stream = self._streams.get(key)
                if stream is None:
                    self._give_back_idle()
                    if not self._is_worth_it(instance, key):
                        return None
                    stream = self._streams[key] = SeriesStream(key)
                if stream.busy:
                    self._cond.wait(_LOOK)
                    if abort is not None:
                        abort.check()
                    continue
                stream.busy = True
            self._read_on(stream, instance.sop_uid, abort)

    def close(self) -> None:
        with self._cond:
            self._closed = True
            self._shelf.clear()
            self._expected.clear()
            self._held = 0
            for stream in self._streams.values():
                if not stream.busy:
                    stream.close()
            self._cond.notify_all()

    # --- inside; under the lock ---

    def _is_worth_it(self, instance: InstanceRef, key: Series) -> bool:
        if self._closed or not self._offered or self._mean is None or self._mean > SMALL or key in self._done:
            return False
        if len(self._streams) >= max(1, self._access.pool.limit // 4) or self._access.pool.limit < 2:
            return False
        expected = 1 + sum(one.series_uid == instance.series_uid for one in self._expected.values())
        count = instance.series.instance_count if instance.series is not None else None
        return expected >= _FEWEST and (count is None or expected * _SHARE >= count)

    def _give_back_idle(self) -> None:
        now = time.monotonic()
        for key, stream in list(self._streams.items()):
            if not stream.busy and now - stream.since > _REST:
                self._end(key)

    def _end(self, key: Series) -> None:
        self._streams.pop(key).close()
        self._done[key] = None
        while len(self._done) > 100:
            self._done.pop(next(iter(self._done)))

    def _put(self, uid: str, body: bytes) -> None:
        self._shelf[uid] = body
        self._held += len(body)
        while self._held > SHELF:
            self._held -= len(self._shelf.pop(next(iter(self._shelf))))

    # --- reading, by the thread that wants something of the series ---

    def _read_on(self, stream: SeriesStream, wanted: str, abort: Abort | None) -> None:
        """Read until there is enough for now; what came is on the shelf then."""
        ended = True
        try:
            if stream.reader is None:
                stream.open(self._access, self._accept, abort)
            come = False
            while (image := stream.next()) is not None:
                uid, body = image
                come = come or uid == wanted
                with self._cond:
                    if self._closed:
                        return
                    self._put(uid, body)
                    self._cond.notify_all()
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
            with self._cond:
                stream.busy = False
                stream.since = time.monotonic()
                if ended or self._closed:
                    self._end(stream.key)
                self._cond.notify_all()


class NotOfferedError(Exception):
    """The service does not give series whole."""


class TooLargeError(Exception):
    """An image of the series is too large to wait in memory."""


class SeriesStream:
    """A series on its way."""

    def __init__(self, key: Series) -> None:
        self.key = key
        self.busy = False
        self.since = time.monotonic()
        self.reader: MultipartReader | None = None
        self._response: Response | None = None

    def open(self, access: DicomwebAccess, accept: str, abort: Abort | None) -> None:
        path = series_path(*self.key)
        response = self._response = access.request("GET", path, accept=accept, abort=abort)
        kind, _ = media_type(response.headers.get("content-type", ""))
        if response.status not in (200, 206) or not kind.startswith("multipart/"):
            raise NotOfferedError(f"{response.status} {kind}")
        self.reader = MultipartReader(response, response.headers["content-type"], access.pool.where)

    def next(self) -> tuple[str, bytes] | None:
        """SOP Instance UID and file of the next image; None after the last one."""
        assert self.reader is not None
        while (part := self.reader.next()) is not None:
            body = _whole(part)
            try:
                uid = split_head(body).sop_uid if body[128:132] == b"DICM" else ""
            except NotAFileError:
                uid = ""
            if uid:
                return uid, body
        self.reader.drain()
        return None

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


def _whole(part: Part) -> bytes:
    if part.length is not None and part.length > LARGEST:
        raise TooLargeError
    whole = bytearray(part.length if part.length is not None else SMALL)
    filled = 0
    while True:
        if filled == len(whole):
            if part.length is not None:
                return bytes(whole)
            if filled >= LARGEST:
                raise TooLargeError
            whole.extend(bytes(filled))
        with memoryview(whole) as view:
            count = part.readinto(view[filled:])
        if not count:
            return bytes(whole[:filled])
        filled += count
