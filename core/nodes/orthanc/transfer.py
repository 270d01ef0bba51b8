"""Bytes from and to an Orthanc, and exact deletion: `Read`, `Write` and `Delete`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from core.model.errors import AnswerError, TransportError, TransportFault
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Acknowledgement, Body, ByteStream, DeleteOutcome, DeleteState
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.holdings import expected_id, holdings, keeps_digests
from core.nodes.orthanc.rest import OrthancRest, shown
from core.wire.http import Abort, Response
from core.wire.status import answer_error

_DELETE_CHUNK = 50  # instances whose digests are asked for right before they are deleted
_MAGIC_END = 132  # PS3.10 7.1: 128 bytes of preamble and "DICM"


class OrthancTransfer(OrthancBase):
    """`Read`, `Write` and `Delete` of an Orthanc."""

    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> AbstractContextManager[ByteStream]:
        """``GET /instances/{id}/file``: the file as it was received."""
        return DicomFile(self.rest, f"/instances/{instance.ref}/file", instance.size, abort)

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        """The server's own MD5 of each file as it gives it out."""
        if not instances:
            return {}
        study = StudyInfo(study_uid=instances[0].study_uid, patient_id=instances[0].patient_id)
        held = holdings(self.rest, study, instances, own=True, abort=abort)
        return {h.sop_uid: h.digest for h in held if h.digest}

    @property
    def keeps_digests(self) -> bool:
        """Asked once: of the instances seen last, or of any one that it holds."""
        return keeps_digests(self.rest)

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        """``POST /instances``.

        Raises
        ------
        AnswerError
            ``filtered-out`` when a filter of the server leaves it out, ``no-room``, ``bad-dicom``, … and
            ``not-the-server`` when something in front of the server answered.
        """
        try:
            answer = self.rest.pool.fetch(
                "POST", "/instances", body=body, content_type="application/dicom", abort=abort
            )
        except TransportError:
            self.rest.forget()
            raise
        if answer.status != 200:
            self.rest.refuse("/instances", answer.status, answer.headers, answer.body)
        if answer.early:
            raise TransportError(
                TransportFault.CUT,
                f"{self.name} answered before it had the whole image, so it can't have stored it.",
                "It is tried again; if it stays so, look for a proxy in front of the server.",
            )
        try:
            found = json.loads(answer.body)
            status = found["Status"]
            ref = found.get("ID", "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            detail = shown(answer.headers, answer.body)
            raise answer_error("not-the-server", node=self.name, status=200, detail=detail) from error
        if status == "Success":
            return Acknowledgement(True, ref, "200 Success")
        if status == "AlreadyStored":
            return Acknowledgement(False, ref, "200 AlreadyStored")
        code = "filtered-out" if status == "FilteredOut" else "not-stored"
        raise answer_error(code, node=self.name, status=200, detail=f"Status: {status}")

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        """Delete what is held under this SOP Instance UID in the study."""
        for held in holdings(self.rest, study, [instance]):
            if held.presence is Presence.PRESENT:
                outcome = self._delete_one(instance, held.ref, None)
                if outcome.state is DeleteState.REFUSED:
                    raise answer_error("forbidden", node=self.name, status=403, detail=outcome.answer)

    def delete(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> Iterator[DeleteOutcome]:
        """One ``DELETE /instances/{id}`` each, right after its digest was asked for again."""
        for start in range(0, len(instances), _DELETE_CHUNK):
            chunk = instances[start : start + _DELETE_CHUNK]
            held = holdings(self.rest, study, chunk, own=True, abort=abort)
            for one, now in zip(chunk, held, strict=True):
                if now.presence is Presence.UNKNOWN:
                    yield DeleteOutcome(
                        one.sop_uid, DeleteState.REFUSED, "the server could not say whether it holds it"
                    )
                elif now.presence is Presence.ABSENT:
                    yield DeleteOutcome(one.sop_uid, DeleteState.GONE, "404")
                elif one.digest and now.digest is None:
                    yield DeleteOutcome(
                        one.sop_uid, DeleteState.CHANGED, "the server does not tell whether it is still the same"
                    )
                elif one.digest and now.digest != one.digest:
                    yield DeleteOutcome(one.sop_uid, DeleteState.CHANGED, f"holds {now.digest}")
                else:
                    yield self._delete_one(one, one.ref or expected_id(study, one), abort)

    def _delete_one(self, one: InstanceRef, ref: str, abort: Abort | None) -> DeleteOutcome:
        path = f"/instances/{ref}"
        answer = self.rest.fetch("DELETE", path, abort=abort)
        try:
            if not isinstance(self.rest.parsed(path, answer), dict):
                self.rest.unexpected(path, "not the answer to a deletion")
        except AnswerError as error:
            if error.code == "gone":
                return DeleteOutcome(one.sop_uid, DeleteState.GONE, "404")
            if error.code in ("forbidden", "method", "read-only", "conflict"):
                return DeleteOutcome(one.sop_uid, DeleteState.REFUSED, f"{error.status} {error.sentence}")
            raise
        return DeleteOutcome(one.sop_uid, DeleteState.DELETED, "200")


class DicomFile:
    """The file of an instance on its way; the request is made on entering.

    Attributes
    ----------
    length : int | None
        Bytes, where the server says so in advance.
    """

    length: int | None

    def __init__(self, rest: OrthancRest, path: str, size: int | None, abort: Abort | None) -> None:
        self._rest = rest
        self._path = path
        self._size = size
        self._abort = abort
        self._response: Response | None = None

    def __enter__(self) -> ByteStream:
        try:
            response = self._rest.pool.request("GET", self._path, abort=self._abort)
            response.__enter__()
        except TransportError:
            self._rest.forget()
            raise
        self._response = response
        try:
            if response.status != 200:
                body = response.read_all(65536)
                self._rest.refuse(self._path, response.status, response.headers, body)
            framed = response.framed or self._size is None
            stream = DicomStream(response) if framed else CountedStream(response, self._size or 0, self._rest.node)
            kind = response.headers.get("content-type", "")
            if not kind.startswith(("application/dicom", "application/octet-stream")) or not stream.is_dicom:
                raise answer_error(
                    "not-dicom",
                    node=self._rest.node,
                    status=200,
                    detail=f"{self._path}: {shown(response.headers, stream.start)}",
                )
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.__exit__(kind, error, trace)


class DicomStream:
    """A response body whose first bytes were looked at; after these, reading goes straight to the response."""

    def __init__(self, response: Response) -> None:
        self.length = response.length
        self._response = response
        first = bytearray(_MAGIC_END)
        view, filled = memoryview(first), 0
        while filled < _MAGIC_END:
            count = response.readinto(view[filled:])
            if count == 0:
                break
            filled += count
        self.start = bytes(view[:filled])
        self._given = 0

    @property
    def is_dicom(self) -> bool:
        """Whether it begins as a DICOM file does (PS3.10 7.1)."""
        return self.start[128:] == b"DICM"

    def readinto(self, view: memoryview, /) -> int:
        left = len(self.start) - self._given
        if not left:
            return self._response.readinto(view)
        count = min(left, len(view))
        view[:count] = self.start[self._given : self._given + count]
        self._given += count
        if count < len(view) and self._given == len(self.start):
            return count + self._response.readinto(view[count:])
        return count


class CountedStream(DicomStream):
    """A body that only the end of the connection ends: it has to be as long as the server listed it."""

    def __init__(self, response: Response, size: int, node: str) -> None:
        super().__init__(response)
        self._missing = size
        self._node = node

    def readinto(self, view: memoryview, /) -> int:
        count = super().readinto(view)
        self._missing -= count
        if not count and self._missing and view:
            detail = f"{self._missing} bytes are missing"
            raise answer_error("truncated", node=self._node, status=200, detail=detail)
        return count
