"""Exact deletion at a DICOMweb service that offers it (``DELETE``, not of the standard): `Delete`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from core.model.errors import AnswerError
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import DeleteOutcome, DeleteState
from core.nodes.dicomweb.base import instance_path
from core.nodes.dicomweb.read import DicomwebRead
from core.wire.abort import Abort
from core.wire.http import Answer
from core.wire.multipart import media_type
from core.wire.status import answer_error

_PIECE = 1 << 18
_REFUSED = frozenset({400, 403, 405, 406, 409, 423, 501})
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


class DicomwebDelete(DicomwebRead):
    """`Delete` of a DICOMweb service: ``DELETE /studies/{}/series/{}/instances/{}``, one image each."""

    def delete(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> Iterator[DeleteOutcome]:
        """Where a digest is given, the image is read again right before: DICOMweb doesn't tell whether it changed."""
        for one in instances:
            yield self._still_the_same(one, abort) or self._delete_one(one, abort)

    def _still_the_same(self, one: InstanceRef, abort: Abort | None) -> DeleteOutcome | None:
        """Why it must not be deleted; None where it may."""
        if not one.digest:
            return None
        hasher = hashlib.md5(usedforsecurity=False)
        piece = memoryview(bytearray(_PIECE))
        try:
            with self.open(one, abort=abort) as stream:
                while count := stream.readinto(piece):
                    hasher.update(piece[:count])
        except AnswerError as error:
            if error.code == "gone":
                return DeleteOutcome(one.sop_uid, DeleteState.GONE, str(error.status))
            raise
        if hasher.hexdigest() != one.digest:
            return DeleteOutcome(one.sop_uid, DeleteState.CHANGED, f"gives {hasher.hexdigest()} now")
        return None

    def _delete_one(self, one: InstanceRef, abort: Abort | None) -> DeleteOutcome:
        path = instance_path(one.study_uid, one.series_uid, one.sop_uid)
        answer = self.access.fetch("DELETE", path, accept="*/*", abort=abort)
        said = f"{answer.status} {answer.reason}".strip()
        if answer.status in (200, 202, 204) and not _is_page(answer):
            return DeleteOutcome(one.sop_uid, DeleteState.DELETED, said)
        error = self.access.error(path, answer.status, answer.headers, answer.body)
        if answer.status in (404, 410) and self.is_here(abort=abort):
            # Of services that know no DELETE some answer 404 as well: it is gone only where it can't be read any more.
            if self._is_there(one, abort):
                return DeleteOutcome(one.sop_uid, DeleteState.REFUSED, f"{said}: it can't delete")
            return DeleteOutcome(one.sop_uid, DeleteState.GONE, said)
        if answer.status in _REFUSED:
            return DeleteOutcome(one.sop_uid, DeleteState.REFUSED, f"{said} {error.sentence}")
        if answer.status < 300:
            raise answer_error("not-the-server", node=self.name, status=answer.status, detail=error.detail)
        raise error

    def _is_there(self, one: InstanceRef, abort: Abort | None) -> bool:
        try:
            with self.open(one, abort=abort):
                return True
        except AnswerError as error:
            if error.code == "gone":
                return False
            raise


def _is_page(answer: Answer) -> bool:
    """A page for people, as a proxy's login gives for any request."""
    kind, _ = media_type(answer.headers.get("content-type", ""))
    return kind in _PAGES or answer.body.lstrip()[:1] == b"<"
