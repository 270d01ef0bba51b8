"""Several images in one go, from and to an Orthanc: rows of requests on one connection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest

from core.model.errors import FerryError, TransportError
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement, BatchLimits, Fetched
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.holdings import expected_id
from core.nodes.orthanc.transfer import DICOM_TYPES, etag_digest
from core.nodes.web.stream import MAGIC_END
from core.wire.http import Abort

_ANSWERS = 65536  # bytes for the answers to a row of uploads
_ROW = BatchLimits(16, 2 << 20)
_ALONE = BatchLimits(1, 0)


class OrthancTogether(OrthancBase):
    """`ReadTogether` and `WriteMany` of an Orthanc."""

    def open_together(
        self, instances: Sequence[InstanceRef], into: memoryview, *, abort: Abort | None = None
    ) -> list[Fetched | None]:
        """``GET /instances/{id}/file`` in a row, or ``…/attachments/dicom/data`` where the digest isn't known."""
        if not self.rest.pool.takes_rows:
            return [None] * len(instances)
        tells = self.rest.capabilities(abort=abort).digest_with_file
        paths = [
            f"/instances/{one.ref}/{'attachments/dicom/data' if tells and one.digest is None else 'file'}"
            for one in instances
        ]
        answers = self.rest.pool.row("GET", [(path, None) for path in paths], into, abort=abort)
        found: list[Fetched | None] = []
        for answer in answers:
            good = (
                answer.status == 200
                and len(answer.body) >= MAGIC_END
                and bytes(answer.body[128:MAGIC_END]) == b"DICM"
                and answer.headers.get("content-type", "").startswith(DICOM_TYPES)
            )
            found.append(Fetched(answer.body, etag_digest(answer.headers.get("etag", ""))) if good else None)
        return found + [None] * (len(instances) - len(found))

    @property
    def batch_limits(self) -> BatchLimits:
        return _ROW if self.rest.pool.takes_rows else _ALONE

    def store_many(
        self, study: StudyInfo, images: Sequence[tuple[InstanceRef, bytes | memoryview]], *, abort: Abort | None = None
    ) -> list[Acknowledgement | FerryError | None]:
        """``POST /instances`` in a row; an answer counts only with the identifier that its image has to get."""
        try:
            answers = self.rest.pool.row(
                "POST",
                [("/instances", body) for _one, body in images],
                memoryview(bytearray(_ANSWERS)),
                content_type="application/dicom",
                abort=abort,
            )
        except TransportError as error:
            self.rest.forget()
            return [error] * len(images)
        return [
            None if answer is None or answer.status != 200 else _acknowledged(study, one, answer.body)
            for (one, _body), answer in zip_longest(images, answers)
        ]


def _acknowledged(study: StudyInfo, one: InstanceRef, body: memoryview) -> Acknowledgement | None:
    try:
        found = json.loads(bytes(body))
        status, ref = found["Status"], found["ID"]
    except (ValueError, KeyError, TypeError):
        return None
    if ref != expected_id(study, one) or status not in ("Success", "AlreadyStored"):
        return None
    return Acknowledgement(status == "Success", ref, f"200 {status}")
