"""Images from a DICOMweb service, byte for byte as it keeps them (WADO-RS, PS3.18 section 10.4): `Read` and more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from core.model.errors import AnswerError, TransportError
from core.model.study import InstanceRef
from core.nodes.base import ByteStream
from core.nodes.dicomweb.access import MULTIPART, shown
from core.nodes.dicomweb.base import instance_path
from core.nodes.dicomweb.query import DicomwebQuery
from core.nodes.web.stream import SHOWN, CheckedStream
from core.wire.abort import Abort
from core.wire.http import Response
from core.wire.multipart import MultipartReader, media_type
from core.wire.status import answer_error

if TYPE_CHECKING:
    from core.nodes.dicomweb.ahead import SeriesAhead
    from core.nodes.dicomweb.series_stream import Image

SINGLE = "application/dicom; transfer-syntax=*"
ACCEPTED = (MULTIPART, SINGLE)
"""Always with the asterisk: without it a service may re-encode what it keeps (PS3.18 section 8.7.3.5.2)."""
_AT_ONCE = 1 << 20  # bytes that are read ahead to learn the length of an image that doesn't tell it
_REFUSED = frozenset({400, 406, 415})
_NOTHING = memoryview(b"")


class DicomwebRead(DicomwebQuery):
    """`Read` and `ReadAhead` of a DICOMweb service."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.accept = ACCEPTED[0]
        self._ahead: SeriesAhead | None = None

    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> AbstractContextManager[ByteStream]:
        """``GET /studies/{}/series/{}/instances/{}`` in the stored transfer syntax, or what came with its series."""
        ahead = self._ahead
        if ahead is not None:
            image = ahead.take(instance, abort)
            if image is not None:
                return InMemory(image)
        return DicomFile(self, instance, abort, ahead)

    def read_ahead(self, instances: Sequence[InstanceRef]) -> None:
        """Series of images that aren't large are fetched with one request each, once the first of them is opened."""
        if self._ahead is None:
            from core.nodes.dicomweb.ahead import SeriesAhead

            self._ahead = SeriesAhead(self.access, MULTIPART)
        self._ahead.expect(instances)

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
        super().close()

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        """None: DICOMweb has no digests."""
        return {}

    @property
    def keeps_digests(self) -> bool:
        return False


class DicomFile:
    """The file of an image on its way; the request is made on entering."""

    def __init__(
        self, node: DicomwebRead, instance: InstanceRef, abort: Abort | None, ahead: SeriesAhead | None
    ) -> None:
        self._node = node
        self._path = instance_path(instance.study_uid, instance.series_uid, instance.sop_uid)
        self._abort = abort
        self._ahead = ahead
        self._response: Response | None = None
        self._reader: MultipartReader | None = None
        self._size = 0

    def __enter__(self) -> ByteStream:
        if self._ahead is not None:
            self._ahead.single_begins()
        try:
            return self._open()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if self._ahead is not None:
            self._ahead.single_ends(self._size if error is None else 0)
        if response is None:
            return
        if error is None and self._reader is not None and self._reader.at_boundary:
            with suppress(TransportError):  # what follows the image serves only to keep the connection
                self._reader.drain()
        response.close()

    def _open(self) -> ByteStream:
        response = self._answer()
        kind, _ = media_type(response.headers.get("content-type", ""))
        if kind.startswith("multipart/"):
            self._reader = MultipartReader(response, response.headers["content-type"], self._node.access.pool.where)
            part = self._reader.next()
            if part is None:
                raise self._not_dicom(b"")
            kind, _ = media_type(part.headers.get("content-type", "application/dicom"))
            source: ByteStream = part if part.length is not None else Measured(part)
        else:
            source = response
            if not response.framed:
                # Nothing would tell a cut one from a whole one.
                self._node.access.unexpected(self._path, "an image of which neither length nor end is told")
        if kind not in ("application/dicom", "application/octet-stream"):
            raise self._not_dicom(_start_of(source))
        if source.length is not None:
            self._size = source.length
            if self._ahead is not None:
                self._ahead.learn(source.length)
        return CheckedStream(source, self._not_dicom)

    def _answer(self) -> Response:
        """The answer with the image; raises for any other."""
        node = self._node
        tried = [node.accept, *(other for other in ACCEPTED if other != node.accept)]
        for accept in tried:
            response = self._response = node.access.request("GET", self._path, accept=accept, abort=self._abort)
            if response.status in (200, 206):
                node.accept = accept
                return response
            if response.status not in _REFUSED or accept == tried[-1]:
                break
            response.close()
        error = node.access.error(self._path, response.status, response.headers, response.read_all(SHOWN * 16))
        if response.status in (404, 410) and node.is_here(abort=self._abort):
            raise answer_error("gone", node=node.name, status=response.status, detail=error.detail)
        raise error

    def _not_dicom(self, start: bytes) -> AnswerError:
        headers = self._response.headers if self._response is not None else {}
        return answer_error(
            "not-dicom", node=self._node.name, status=200, detail=f"{self._path}: {shown(headers, start)}"
        )


class InMemory:
    """A file that is in memory, which is used again for others as soon as it is left.

    Attributes
    ----------
    whole : memoryview
        All of it, until then.
    """

    def __init__(self, image: Image) -> None:
        self.length: int | None = len(image.body)
        self.whole = self._rest = image.body
        self._image = image

    def __enter__(self) -> InMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.whole = self._rest = _NOTHING  # whoever comes too late gets no bytes of another image
        self._image.give_back()

    def readinto(self, view: memoryview, /) -> int:
        count = min(len(self._rest), len(view))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class Measured:
    """A stream whose first bytes are read ahead: where that is all of it, its length is known."""

    def __init__(self, source: ByteStream) -> None:
        self._source = source
        self._ahead = bytearray(_AT_ONCE)
        self._at = self._end = 0
        self._ended = False
        with memoryview(self._ahead) as view:
            while self._end < len(view) and not self._ended:
                count = source.readinto(view[self._end :])
                self._end += count
                self._ended = not count
        self.length = self._end if self._ended else None

    def readinto(self, view: memoryview, /) -> int:
        left = self._end - self._at
        if left:
            count = min(left, len(view))
            view[:count] = self._ahead[self._at : self._at + count]
            self._at += count
            return count
        return 0 if self._ended else self._source.readinto(view)


def _start_of(source: ByteStream) -> bytes:
    piece = bytearray(SHOWN)
    count = source.readinto(memoryview(piece))
    return bytes(piece[:count])
