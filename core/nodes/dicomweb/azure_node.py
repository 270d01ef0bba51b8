"""An Azure DICOM service: what it answers differently from other DICOMweb services, and how much it takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.model.errors import AnswerError
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement, Body
from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.azure_diagnosis import AzureDiagnosis
from core.nodes.dicomweb.azure_fields import AzureFields
from core.nodes.dicomweb.node import DicomwebNode
from core.wire.abort import Abort
from core.wire.status import answer_error

REQUEST_LIMIT = 4 << 30
"""Bytes of a request, of which no image may have more (conformance statement, "Store required attributes")."""

PAGE = 200
"""Answers of a search that come at a time at most; asked for more, the service refuses (400)."""

_FRAME = 64 << 10  # bytes of a request that are not the image's own, at most: multipart headers, a re-encoded head
_VERSIONS = "api-supported-versions"


class AzureAccess(DicomwebAccess):
    """Requests to the service. Its 403 and 404 have meanings that are known better than anywhere else."""

    def error(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> AnswerError:
        error = super().error(path, status, headers, body)
        code = ""
        if _is_page(headers, body) or status == 200:
            code = "not-the-server" if status < 500 else ""
        elif status == 403:
            code = "azure-role"
        elif status in (400, 404) and (b"UnsupportedApiVersion" in body or _VERSIONS in headers):
            code = "azure-version"
        elif status == 404 and path.partition("?")[0] in ("/studies", "/series", "/instances"):
            code = "azure-version"  # what it surely offers, at an address that has no such thing
        if not code:
            return error
        return answer_error(code, node=self.node, status=status, detail=error.detail, retry_after=error.retry_after)


def _is_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether this is a page for people, which the service never gives."""
    return headers.get("content-type", "").lower().startswith("text/html") or body.lstrip()[:1] == b"<"


class AzureNode(AzureDiagnosis, DicomwebNode):
    """A DICOM service of Azure Health Data Services."""

    fields: AzureFields

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.page = PAGE

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        """As of every DICOMweb service; raises ``over-limit`` before a byte of an image that is too large is sent."""
        length = len(body) if isinstance(body, (bytes, memoryview)) else body.length
        self._check(length if length is not None else instance.size)
        return super().store(study, instance, body, abort=abort)

    def _check(self, size: int | None) -> None:
        if size is not None and size > REQUEST_LIMIT - _FRAME:
            detail = f"The image has {size / (1 << 30):.2f} GB; a request may have {REQUEST_LIMIT >> 30} GB."
            raise answer_error("over-limit", node=self.name, detail=detail)

    def __repr__(self) -> str:
        return f"<AzureNode {self.name}>"
