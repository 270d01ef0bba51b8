"""Bytes from and to an Orthanc, and exact deletion: `Read`, `Write` and `Delete`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from core.model.errors import AnswerError, TransportError, TransportFault
from core.model.study import InstanceRef, Presence, StudyInfo
from core.nodes.base import Acknowledgement, Body, ByteStream, DeleteOutcome, DeleteState
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.holdings import expected_id, holdings, keeps_digests
from core.nodes.orthanc.rest import OrthancRest, shown
from core.nodes.web.stream import SHOWN, CheckedStream
from core.wire.http import Abort, Response
from core.wire.status import answer_error

_DELETE_CHUNK = 50  # instances whose digests are asked for right before they are deleted
DICOM_TYPES = ("application/dicom", "application/octet-stream")
_ETAG = re.compile(r'(?:W/)?"\d+-([0-9a-f]{32})"', re.ASCII | re.IGNORECASE)


class OrthancTransfer(OrthancBase):
    """`Read`, `Write` and `Delete` of an Orthanc."""

    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> AbstractContextManager[ByteStream]:
        """The file as it was received: ``GET /instances/{id}/file``.

        Where its digest isn't known yet, ``/attachments/dicom/data``: the same bytes, with the server's MD5 of
        them as ``ETag`` (since 1.9.2), which saves a question for each image.
        """
        tells = instance.digest is None and self.rest.capabilities(abort=abort).digest_with_file
        path = "attachments/dicom/data" if tells else "file"
        return DicomFile(self.rest, f"/instances/{instance.ref}/{path}", instance.size, abort)

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
    """The file of an instance on its way; the request is made on entering."""

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
            where = f"{self._rest.node}", self._path
            stream = DicomStream(response, *where) if framed else CountedStream(response, *where, self._size or 0)
            if not response.headers.get("content-type", "").startswith(DICOM_TYPES):
                raise stream.not_dicom(response.read_all(65536)[:SHOWN] if (response.length or 0) < 65536 else b"")
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


class DicomStream(CheckedStream):
    """A response body that has to begin as a DICOM file does.

    Attributes
    ----------
    digest : str | None
        MD5 that the server keeps of this file, where it says so along with it.
    """

    def __init__(self, response: Response, node: str, path: str) -> None:
        super().__init__(response, self.not_dicom)
        self.digest = etag_digest(response.headers.get("etag", ""))
        self._response = response
        self._node = node
        self._path = path

    def not_dicom(self, start: bytes) -> AnswerError:
        """What came is no DICOM file."""
        detail = f"{self._path}: {shown(self._response.headers, start)}"
        return answer_error("not-dicom", node=self._node, status=200, detail=detail)


class CountedStream(DicomStream):
    """A body that only the end of the connection ends: it has to be as long as the server listed it."""

    def __init__(self, response: Response, node: str, path: str, size: int) -> None:
        super().__init__(response, node, path)
        self._missing = size

    def readinto(self, view: memoryview, /) -> int:
        count = super().readinto(view)
        self._missing -= count
        if not count and self._missing and view:
            detail = f"{self._missing} bytes are missing"
            raise answer_error("truncated", node=self._node, status=200, detail=detail)
        return count


def etag_digest(etag: str) -> str | None:
    """The MD5 in an ``ETag`` of Orthanc's attachments: "revision-md5"."""
    found = _ETAG.fullmatch(etag)
    return found[1].lower() if found else None
