"""A file of this computer on its way to a destination."""

from __future__ import annotations

from typing import BinaryIO

from core.model.errors import LocalError
from core.nodes.local.faults import local_error
from core.wire.abort import Abort


class LocalStream:
    """A file on its way; one that ends early is an error, never a shorter image.

    Parameters
    ----------
    length : int
        Bytes from where the file stands that belong to the image.
    shorter, next_step : str
        What is told when it ends before; ``{node}`` in `shorter` stands for the node's name.
    """

    def __init__(
        self, file: BinaryIO, length: int, node: str, abort: Abort | None, *, shorter: str, next_step: str
    ) -> None:
        self.length: int | None = length
        self._file = file
        self._left = length
        self._node = node
        self._abort = abort
        self._shorter = shorter
        self._next_step = next_step

    def readinto(self, view: memoryview, /) -> int:
        if self._abort is not None:
            self._abort.check()
        if not self._left or not len(view):
            return 0
        try:
            count: int = self._file.readinto(view[: self._left])  # type: ignore[attr-defined]
        except OSError as error:
            raise local_error(error, self._node, of_file=True) from error
        if not count:
            raise LocalError(self._shorter.replace("{node}", self._node), self._next_step, code="cut")
        self._left -= count
        return count
