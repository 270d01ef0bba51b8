"""How fast something moves, and how long it still takes: by bytes, or by images where nobody knows their size."""

from __future__ import annotations

from collections import deque

from core.model.outcome import Counts

WINDOW = 5.0  # seconds that are looked at
_SHORTEST = 0.1


class Pace:
    """One study or job, looked at again and again.

    A DICOM node doesn't tell how large its images are (PS3.4 C.6.2.1 has no such attribute), and a server that sends
    by itself shows no bytes here: then images are counted.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()

    def measure(self, now: float, counts: Counts) -> tuple[float, float | None]:
        """Take in how far it is.

        Parameters
        ----------
        now : float
            Monotonic seconds.

        Returns
        -------
        tuple[float, float | None]
            Bytes a second, 0 where they are unknown; seconds left, None where nothing moves.
        """
        images = counts.confirmed + counts.sent
        self._samples.append((now, counts.bytes_done, images))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW:
            self._samples.popleft()
        since, bytes_then, images_then = self._samples[0]
        span = now - since
        if span <= _SHORTEST:
            return 0.0, None
        speed = max(0.0, (counts.bytes_done - bytes_then) / span)
        if counts.bytes_total:
            return speed, (counts.bytes_total - counts.bytes_done) / speed if speed > 0 else None
        pace = (images - images_then) / span
        return speed, (counts.total - images) / pace if pace > 0 else None
