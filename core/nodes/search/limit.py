"""How many answers a node gives to one question: what is said, what is found out, and what looks like a limit."""

from __future__ import annotations

import threading

_SMALLEST = 50


class AnswerLimit:
    """What is known of a node that may leave answers out and say nothing. Thread-safe.

    Parameters
    ----------
    said : int
        The limit that a person or the last diagnosis knows; 0 for none known.
    """

    def __init__(self, said: int = 0) -> None:
        self._lock = threading.Lock()
        self._said = said
        self._learned = 0
        self._whole = 0

    @property
    def known(self) -> int:
        """The limit as far as it is known; 0 where it isn't."""
        return self._said or self._learned

    def suspects(self, count: int) -> bool:
        """Whether an answer of this length may have been cut off.

        So may all from the known limit on. Without one, round numbers (100, 250, 512, …) look like limits until
        the node has given a longer list.
        """
        with self._lock:
            if self._said:
                return count >= self._said
            if self._learned and count >= self._learned:
                return True
            return count >= _SMALLEST and count > self._whole and _is_round(count)

    def cut_at(self, count: int) -> None:
        """A list of this length was seen to be cut off."""
        with self._lock:
            if not self._learned or count < self._learned:
                self._learned = count

    def whole_with(self, count: int) -> None:
        """A list of this length was seen to be whole."""
        with self._lock:
            self._whole = max(self._whole, count)


def _is_round(count: int) -> bool:
    return count % 50 == 0 or count & (count - 1) == 0
