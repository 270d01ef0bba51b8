"""Images in an encoding that a service may refuse, re-encoded as Explicit VR Little Endian without any loss."""

from __future__ import annotations

from core.model.study import InstanceRef
from core.nodes.base import Body
from core.nodes.local.reencode import LARGEST, NotReencodableError, note, reencoded
from core.wire.dimse.explicit_stream import ExplicitStream
from core.wire.dimse.file_meta import NotAFileError, split_head
from core.wire.dimse.part10 import file_head
from core.wire.dimse.transcode import DEFLATED, EXPLICIT, IMPLICIT, NotConvertibleError
from core.wire.http import ByteSource
from core.wire.status import answer_error

_PLAIN = frozenset({IMPLICIT, DEFLATED})
_HELD = 4 << 20  # bytes up to which an image of implicit VR is re-encoded in memory
_FIRST = 4096  # bytes in which the head of a file is looked for


def encoded(instance: InstanceRef, body: Body, *, decompress: bool, node: str) -> tuple[Body, str]:
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
    if syntax == IMPLICIT and isinstance(body, _Peeked) and (body.length is None or body.length > _HELD):
        return _streamed(instance, body, node)
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


def _streamed(instance: InstanceRef, body: Body, node: str) -> tuple[Body, str]:
    """A large image of implicit VR: re-encoded while it is sent, so that it is never held.

    Raises
    ------
    AnswerError
        ``cannot-transcode``: its bytes were read, so it can't be sent as it is any more.
    """
    try:
        head = split_head(body)
        assert not isinstance(head.data_set, (bytes, memoryview))
        rest = _Checked(ExplicitStream(head.data_set), node)
    except (NotAFileError, NotConvertibleError) as error:
        raise answer_error("cannot-transcode", node=node, detail=str(error)) from error
    first = file_head(head.sop_class or instance.sop_class, head.sop_uid or instance.sop_uid, EXPLICIT)
    return _Joined(first, rest), note(IMPLICIT, EXPLICIT)


class _Checked:
    """Tells what is wrong behind a large value in the words of a node."""

    def __init__(self, stream: ExplicitStream, node: str) -> None:
        self.length = stream.length
        self._stream = stream
        self._node = node

    def readinto(self, view: memoryview, /) -> int:
        try:
            return self._stream.readinto(view)
        except NotConvertibleError as error:
            raise answer_error("cannot-transcode", node=self._node, detail=str(error)) from error


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
