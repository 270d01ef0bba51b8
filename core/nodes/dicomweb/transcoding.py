"""Images in an encoding that a service may refuse, re-encoded as Explicit VR Little Endian without any loss."""

from __future__ import annotations

from core.model.study import InstanceRef
from core.nodes.base import Body
from core.nodes.local.reencode import LARGEST, NotReencodableError, reencoded
from core.wire.dimse.file_meta import NotAFileError, split_head
from core.wire.dimse.part10 import file_head
from core.wire.dimse.transcode import DEFLATED, EXPLICIT, IMPLICIT
from core.wire.http import ByteSource

_PLAIN = frozenset({IMPLICIT, DEFLATED})
_FIRST = 4096  # bytes in which the head of a file is looked for


def encoded(instance: InstanceRef, body: Body, *, decompress: bool) -> tuple[Body, str]:
    """The image as it is to be sent, and in a sentence what was done to it; empty where it is sent as it is.

    What can't be re-encoded without loss is sent as it is: the service's own reason tells more than a guess.
    """
    if isinstance(body, (bytes, memoryview)):
        syntax = _syntax_of(body)
    else:
        body = _Peeked(body)
        syntax = _syntax_of(body.first)
    if syntax == EXPLICIT or not (syntax in _PLAIN or (decompress and syntax)):
        return body, ""
    whole = body if isinstance(body, (bytes, memoryview)) else body.all()
    if whole is None:
        return body, ""
    try:
        head = split_head(whole)
        sop_class, sop_uid = head.sop_class or instance.sop_class, head.sop_uid or instance.sop_uid
        found = reencoded(head, sop_class, sop_uid, EXPLICIT)
    except (NotReencodableError, NotAFileError):
        return whole, ""
    return _Joined(file_head(sop_class, sop_uid, found.transfer_syntax), found.data_set), found.note


def _syntax_of(start: bytes | memoryview) -> str:
    """Transfer Syntax UID of a file; empty where it can't be told from its first bytes."""
    try:
        return split_head(start[:_FIRST]).transfer_syntax
    except NotAFileError:
        return ""


class _Joined:
    """Some bytes, and then a stream."""

    def __init__(self, first: bytes | memoryview, rest: ByteSource) -> None:
        self.first = memoryview(first)
        self.rest = rest
        self.length = None if rest.length is None else len(first) + rest.length

    def readinto(self, view: memoryview, /) -> int:
        if not self.first:
            return self.rest.readinto(view)
        count = min(len(self.first), len(view))
        view[:count] = self.first[:count]
        self.first = self.first[count:]
        return count


class _Peeked(_Joined):
    """A stream whose first bytes were looked at."""

    def __init__(self, stream: ByteSource) -> None:
        first = bytearray(_FIRST)
        filled = 0
        with memoryview(first) as view:
            while filled < _FIRST and (count := stream.readinto(view[filled:])):
                filled += count
        super().__init__(bytes(first[:filled]), stream)
        self.length = stream.length

    def all(self) -> bytes | None:
        """Read to its end; None where it is too large for that, and left as it is."""
        if self.length is None or self.length > LARGEST:
            return None
        whole = bytearray(self.length)
        filled = 0
        with memoryview(whole) as view:
            while filled < self.length and (count := self.readinto(view[filled:])):
                filled += count
        return bytes(whole[:filled])
