"""Small images that were just sent, confirmed by fetching their series: a service may do that sooner than list them."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection

from core.model.errors import FerryError, TransportError, TransportFault
from core.nodes.dicomweb.access import MULTIPART, DicomwebAccess
from core.wire.abort import Abort

SMALL = 16 << 10
"""Bytes of an image, on average, up to which it is worth it."""
FEWEST = 20  # images of a series
_MOST_KNOWN = 20_000
_BEYOND = 100  # images of the series that were not asked about, and as many again as were, after which it is given up
_AGAIN = 16  # questions after which the slower way is tried once more


class ReadingBack:
    """Which of the two ways is quicker at one service, and the images that it may be used for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}  # of images that the service says to have stored, and that are not confirmed
        self._costs: dict[bool, float] = {}  # seconds for an image, by reading (True) and by listing
        self._asked = 0
        self._offered = True

    def stored(self, uid: str, size: int) -> None:
        """The service says that it has stored this image."""
        with self._lock:
            self._sizes[uid] = size
            while len(self._sizes) > _MOST_KNOWN:
                self._sizes.pop(next(iter(self._sizes)))

    def is_worth_it(self, uids: Collection[str]) -> bool:
        """Whether these images of one series are to be confirmed in this way."""
        with self._lock:
            sizes = [size for uid in uids if (size := self._sizes.pop(uid, None)) is not None]
            if not self._offered or len(uids) < FEWEST or len(sizes) < len(uids) or sum(sizes) > SMALL * len(sizes):
                return False
            self._asked += 1
            reading, listing = self._costs.get(True), self._costs.get(False)
            if reading is None or listing is None:
                return reading is None
            quicker = reading < listing
            return quicker if self._asked % _AGAIN else not quicker

    def took(self, count: int, seconds: float, *, reading: bool) -> None:
        """So long did it take to confirm so many images."""
        if count >= FEWEST:
            with self._lock:
                cost = seconds / count
                self._costs[reading] = cost if reading not in self._costs else self._costs[reading] * 0.7 + cost * 0.3

    def present(
        self, access: DicomwebAccess, study_uid: str, series_uid: str, uids: Collection[str], abort: Abort | None
    ) -> set[str]:
        """Those that came with their series; of the others nothing is said.

        Raises
        ------
        TransportError
            ``ABORTED``.
        """
        from core.nodes.dicomweb.series_stream import NotOfferedError, SeriesStream, TooLargeError

        wanted = set(uids)
        found: set[str] = set()
        others = 0
        began = time.monotonic()
        stream = SeriesStream((study_uid, series_uid))
        try:
            stream.open(access, MULTIPART, abort)
            while len(found) < len(wanted) and others <= len(wanted) + _BEYOND and (image := stream.next()) is not None:
                image.give_back()
                if image.uid in wanted:
                    found.add(image.uid)
                else:
                    others += 1
        except (NotOfferedError, TooLargeError):
            self._offered = False
        except FerryError as error:
            if isinstance(error, TransportError) and error.fault is TransportFault.ABORTED:
                raise
            self._offered = False  # listing tells more
        finally:
            stream.close()
        self.took(len(wanted), (time.monotonic() - began) * (2 if len(found) < len(wanted) else 1), reading=True)
        return found
