"""Writing multipart/related bodies as they stream out, many parts back to back (PS3.18 section 8.6.1.2)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from core.model.errors import TransportError, TransportFault
from core.wire.http_upload import ByteSource

_JOINED = 65536  # bytes of a body up to which one piece of memory beats many


class MultipartBody:
    """A body of parts of one media type; its length is known in advance where that of all parts is.

    Parameters
    ----------
    parts : Sequence[bytes | memoryview | ByteSource]
        Read once, in order, while the body is read. Memory must stay as it is until then.
    part_type : str
        Media type of each part.
    boundary : str
        Chosen at random unless given; it must not occur in any part.

    Attributes
    ----------
    length : int | None
    content_type : str
        For the request's header.
    """

    def __init__(
        self, parts: Sequence[bytes | memoryview | ByteSource], part_type: str = "application/dicom", boundary: str = ""
    ) -> None:
        boundary = boundary or f"ferry-{secrets.token_hex(16)}"
        self.content_type = f'multipart/related; type="{part_type}"; boundary={boundary}'
        opening = f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode("ascii")
        self._pieces: list[bytes | memoryview | ByteSource] = []
        for part in parts:
            self._pieces += [opening, part]
            opening = b"\r\n" + opening.removeprefix(b"\r\n")
        closing = f"--{boundary}--\r\n".encode("ascii")
        self._pieces.append(b"\r\n" + closing if self._pieces else closing)
        self._in_memory = all(isinstance(piece, (bytes, memoryview)) for piece in self._pieces)
        lengths = [_length(piece) for piece in self._pieces]
        self.length: int | None = None if None in lengths else sum(n for n in lengths if n is not None)
        self._at = 0  # the piece that is read next, and what was read of it
        self._offset = 0

    def rewind(self) -> bool:
        """Start again from the beginning; False where a part is a stream that was read from already."""
        if not self._in_memory and self._at:
            return self._at == 1 and not self._offset
        self._at = self._offset = 0
        return True

    def whole(self) -> bytes | MultipartBody:
        """What is best sent: one piece of memory where it is small, else this."""
        if self._in_memory and self.length is not None and self.length <= _JOINED:
            return b"".join(self._pieces)  # type: ignore[arg-type]
        return self

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view` from its start; 0 at the end. Errors of a part pass through.

        Raises
        ------
        TransportError
            ``CUT``: a part gave less or more than its `length`; what was sent until then is no whole request.
        """
        filled = 0
        while filled < len(view) and self._at < len(self._pieces):
            piece = self._pieces[self._at]
            if isinstance(piece, (bytes, memoryview)):
                count = min(len(piece) - self._offset, len(view) - filled)
                view[filled : filled + count] = piece[self._offset : self._offset + count]
                self._offset += count
                ended = self._offset == len(piece)
            else:
                count = piece.readinto(view[filled:])
                self._offset += count
                ended = not count
                if piece.length is not None and (
                    self._offset > piece.length or (ended and self._offset < piece.length)
                ):
                    raise _other_length(piece.length, self._offset)
            filled += count
            if ended:
                self._at += 1
                self._offset = 0
        return filled


def _other_length(said: int, came: int) -> TransportError:
    return TransportError(
        TransportFault.CUT,
        "What was to be sent has another length than was said before.",
        "Try again; if it happens again, look at the source.",
        detail=f"{came} of {said} bytes",
    )


def _length(piece: bytes | memoryview | ByteSource) -> int | None:
    return len(piece) if isinstance(piece, (bytes, memoryview)) else piece.length
