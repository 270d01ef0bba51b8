"""Reading multipart/related bodies as they stream in, part by part (RFC 2046 section 5.1, PS3.18 section 8.6.1.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from core.model.errors import TransportError, TransportFault
from core.wire.failures import no_http
from core.wire.http_upload import ByteSource

BUFFER = 256 * 1024
"""Bytes read ahead at a time; a part that fits in here costs no further look at the source."""
HEAD_LIMIT = 16384  # bytes of a part's header lines
PREAMBLE_LIMIT = 65536  # bytes before the first part
_BOUNDARY_LIMIT = 70  # characters, RFC 2046 section 5.1.1
_DIRECT = 65536  # bytes of a body of known length from which on the source is read into the caller's memory

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf';\s*({_TOKEN})\s*=\s*("(?:[^"\\]|\\.)*"|[^";\s]*)\s*')
_ALLOWED = re.compile(r"[0-9A-Za-z'()+_,./:=?\- ]*[0-9A-Za-z'()+_,./:=?\-]")
_LENGTH = re.compile(r"[0-9]{1,18}")


def media_type(value: str) -> tuple[str, dict[str, str]]:
    """A ``Content-Type`` as its type in small letters and its parameters, quotes taken off; names in small letters.

    What can't be read of the parameters is left out.
    """
    kind, _, rest = value.partition(";")
    found: dict[str, str] = {}
    for matched in _PARAMETER.finditer(f";{rest}" if rest else ""):
        text = matched[2]
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        found.setdefault(matched[1].lower(), text)
    return kind.strip().lower(), found


class MultipartReader:
    """The parts of one body, each to be read before the next. Memory is constant whatever their sizes.

    Parameters
    ----------
    source : ByteSource
        The body; its own errors pass through.
    content_type : str
        Of the answer, with the boundary.
    where : str
        The server, for messages.

    Raises
    ------
    TransportError
        ``PROTOCOL``: there is no usable boundary.
    """

    def __init__(self, source: ByteSource, content_type: str, where: str) -> None:
        kind, parameters = media_type(content_type)
        boundary = parameters.get("boundary", "")
        if not kind.startswith("multipart/") or not boundary:
            raise no_http(where, "it is no multipart body with a boundary", content_type[:200])
        if len(boundary) > _BOUNDARY_LIMIT or _ALLOWED.fullmatch(boundary) is None:
            raise no_http(where, "the boundary between its parts is not allowed", content_type[:200])
        self._source = source
        self._where = where
        self._mark = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        # The line end before the first boundary belongs to it, and is not sent when nothing stands before it.
        self._buffer[:2] = b"\r\n"
        self._start = 0
        self._end = 2
        # What is left of the present part is known here, and a part knows its number only: were they to hold each
        # other, every reader's buffer would wait for the garbage collector.
        self._number = 0
        self._left: int | None = None
        self._part_ended = True
        self._ended = False

    def next(self) -> Part | None:
        """The next part, the rest of the last one being skipped; None after the final boundary.

        Raises
        ------
        TransportError
            ``CUT`` where the body ends before its final boundary, ``PROTOCOL`` where it is malformed.
        """
        if self._ended:
            return None
        if not self._number:
            self._skip_preamble()
        elif not self._part_ended:
            scratch = memoryview(bytearray(BUFFER))
            while self.read_part(self._number, scratch):
                pass
        if self._is_final():
            self._ended = True
            return None
        headers = self._headers()
        length = None
        text = headers.get("content-length")
        if text is not None:
            if _LENGTH.fullmatch(text) is None:
                raise no_http(self._where, "the length of a part is no number", text[:200])
            length = int(text)
        self._number += 1
        self._left = length
        self._part_ended = False
        return Part(self, self._number, headers, length)

    @property
    def at_boundary(self) -> bool:
        """Whether the last part was read to its end."""
        return self._part_ended

    def drain(self) -> None:
        """Skip the parts that are left and read what follows the final boundary, so that the connection can be kept."""
        while self.next() is not None:
            pass
        self._start = self._end = 0
        left = PREAMBLE_LIMIT
        while left > 0 and (count := self._source.readinto(self._view)):
            left -= count

    # --- what a part is read with ---

    def read_part(self, number: int, view: memoryview) -> int:
        """Bytes of the part of this number; 0 at its end, and where it is not the present one any more."""
        if number != self._number or self._part_ended or not view:
            return 0
        if self._left is None:
            count = self._read_body(view)
            self._part_ended = not count
            return count
        count = 0
        if self._left:
            count = self._read_sized(view, self._left)
            self._left -= count
        if not self._left:
            self._require_boundary()
            self._part_ended = True
        return count

    def _read_body(self, view: memoryview) -> int:
        """Bytes of the present part up to its boundary; 0 once that is reached."""
        while True:
            found = self._buffer.find(self._mark, self._start, self._end)
            if found == self._start:
                if self._is_boundary():
                    return 0
                safe = self._start + 1  # the boundary is the beginning of a longer word: it is content
            elif found > 0:
                safe = found
            else:
                safe = max(self._start, self._end - len(self._mark) + 1)
            if safe > self._start:
                return self._take(view, safe - self._start)
            if not self._fill():
                self._cut()

    def _read_sized(self, view: memoryview, left: int) -> int:
        """Bytes of a part that has so many left."""
        have = self._end - self._start
        if have:
            return self._take(view, min(have, left))
        part = view[:left] if len(view) > left else view
        if len(part) >= _DIRECT:
            count = self._source.readinto(part)
            if not count:
                self._cut()
            return count
        if not self._fill():
            self._cut()
        return self._take(view, min(self._end - self._start, left))

    def _require_boundary(self) -> None:
        """After a part of a length that was said: its boundary has to follow."""
        need = len(self._mark)
        while self._end - self._start < need:
            if not self._fill():
                self._cut()
        if not self._buffer.startswith(self._mark, self._start) or not self._is_boundary():
            raise no_http(self._where, "a part has another length than it says")

    # --- inside ---

    def _skip_preamble(self) -> None:
        read = 0
        while True:
            found = self._buffer.find(self._mark, self._start, self._end)
            if found >= 0:
                self._start = found
                if self._is_boundary():
                    return
                self._start += 1
                continue
            dropped = max(self._start, self._end - len(self._mark) + 1)
            read += dropped - self._start
            self._start = dropped
            if read > PREAMBLE_LIMIT:
                raise no_http(self._where, "its first part does not come")
            if not self._fill():
                self._cut()

    def _is_boundary(self) -> bool:
        """Whether the boundary at the start is a whole one: blanks or a line end follow, or the two final hyphens."""
        after = self._start + len(self._mark)
        while self._end < after + 2:
            grown = self._start + len(self._mark)
            if not self._fill():
                # "--boundary--" may be the very last bytes; anything shorter is cut.
                self._cut()
            after = self._start + len(self._mark)
            assert grown >= after
        return self._buffer[after] in (32, 9) or bytes(self._buffer[after : after + 2]) in (b"\r\n", b"--")

    def _is_final(self) -> bool:
        """Go past the boundary at the start, and its line; whether it was the final one."""
        self._start += len(self._mark)
        if self._buffer[self._start : self._start + 2] == b"--":
            self._start += 2
            return True
        line = self._line(1000)
        if line.strip(b" \t"):
            raise no_http(self._where, "something stands behind a boundary")
        return False

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        size = 0
        while line := self._line(HEAD_LIMIT):
            size += len(line)
            if size > HEAD_LIMIT:
                raise no_http(self._where, "the header of a part is out of all bounds")
            name, colon, value = line.partition(b":")
            if not colon or not name.strip():
                raise no_http(self._where, "a header line of a part is malformed", repr(line[:200]))
            found[name.strip().decode("latin-1").lower()] = value.decode("latin-1").strip(" \t")
        if "content-length" not in found:
            # The line end of the empty line may be that before a boundary: a part without a body (RFC 2046 5.1.1).
            self._start -= 2
            if not self._at_boundary():
                self._start += 2
        return found

    def _at_boundary(self) -> bool:
        while self._end - self._start < len(self._mark):
            if not self._buffer.startswith(self._mark[: self._end - self._start], self._start):
                return False
            if not self._fill():
                return False
        return self._buffer.startswith(self._mark, self._start) and self._is_boundary()

    def _line(self, limit: int) -> bytes:
        """A line without its end, which has to be CR LF."""
        while True:
            found = self._buffer.find(b"\r\n", self._start, self._end)
            if found >= 0 and found - self._start <= limit:
                line = bytes(self._buffer[self._start : found])
                self._start = found + 2
                return line
            if found >= 0 or self._end - self._start > limit:
                raise no_http(self._where, "a header line of a part is too long")
            if not self._fill():
                self._cut()

    def _take(self, view: memoryview, count: int) -> int:
        count = min(count, len(view))
        view[:count] = self._view[self._start : self._start + count]
        self._start += count
        return count

    def _fill(self) -> bool:
        """More bytes behind those that are held; False at the end of the body."""
        if self._end == len(self._buffer) or self._start == self._end:
            # Two bytes before the start are kept: `_headers` steps back over a line end.
            kept = bytes(self._buffer[max(0, self._start - 2) : self._end])
            shift = max(0, self._start - 2)
            self._buffer[: len(kept)] = kept
            self._start -= shift
            self._end -= shift
        if self._end == len(self._buffer):
            raise no_http(self._where, "its parts can't be told apart")
        count = self._source.readinto(self._view[self._end :])
        self._end += count
        return count > 0

    def _cut(self) -> NoReturn:
        raise TransportError(
            TransportFault.CUT,
            f"The answer of {self._where} ended in the middle of its parts.",
            "It is tried again; if this lasts, look at the server's log and at a proxy in front of it.",
        )


class Part:
    """One part of a body: a stream of bytes that ends where the part does.

    Attributes
    ----------
    headers : Mapping[str, str]
        Names in small letters.
    length : int | None
        Bytes of its body, where its own header says so.
    """

    __slots__ = ("_number", "_reader", "headers", "length")

    def __init__(self, reader: MultipartReader, number: int, headers: Mapping[str, str], length: int | None) -> None:
        self.headers = headers
        self.length = length
        self._reader = reader
        self._number = number

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view` from its start; 0 at the part's end.

        Raises
        ------
        TransportError
            ``CUT``, or ``PROTOCOL`` where the part does not end where its header says.
        """
        return self._reader.read_part(self._number, view)
