"""STOW-RS: streams each part of the upload into a file, checks it, and says what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pydicom
from pydicom.errors import InvalidDicomError

from tests.support.azure_service.faults import Fault, FaultKind
from tests.support.azure_service.listener import BLOCK, Cut, Request
from tests.support.azure_service.shelf import UID, Key, indexed, text

if TYPE_CHECKING:
    from tests.support.azure_service.service import AzureService

DICOM_JSON = "application/dicom+json"
_IMPLICIT = pydicom.uid.ImplicitVRLittleEndian
_DATE = re.compile(r"\d{8}")


@dataclass
class Outcome:
    """What became of one part."""

    sop_class: str = ""
    sop_uid: str = ""
    path: str = ""
    failure: int = 0
    warning: int = 0
    remarks: list[str] = field(default_factory=list)

    def json(self, base: str) -> dict[str, Any]:
        """An item of FailedSOPSequence or ReferencedSOPSequence."""
        item: dict[str, Any] = {}
        if self.sop_uid:
            item["00081150"] = {"vr": "UI", "Value": [self.sop_class]}
            item["00081155"] = {"vr": "UI", "Value": [self.sop_uid]}
        if self.failure:
            item["00081197"] = {"vr": "US", "Value": [self.failure]}
        else:
            item["00081190"] = {"vr": "UR", "Value": [base + self.path]}
        if self.warning:
            item["00081196"] = {"vr": "US", "Value": [self.warning]}
        if self.remarks:
            comments = [{"00000902": {"vr": "LO", "Value": [f"DICOM100: {remark}"]}} for remark in self.remarks]
            item["00741048"] = {"vr": "SQ", "Value": comments}
        return item


def answer(service: AzureService, request: Request, study: str, fault: Fault | None) -> None:
    """``POST /v2/studies[/{study}]``."""
    if study and not UID.fullmatch(study):
        request.answer(400, f"Invalid study identifier '{study}'.")
        return
    accept = request.headers.get("Accept", "*/*")
    if not any(kind in accept for kind in (DICOM_JSON, "*/*", "application/*")):
        request.answer(406, "The Accept header is not supported.")
        return
    kind, parameters = content_type(request.headers.get("Content-Type", ""))
    single = kind == "application/dicom"
    if not single and (kind != "multipart/related" or parameters.get("type") != "application/dicom"):
        request.answer(415, f"The Content-Type '{kind}' is not supported.")
        return
    if not single and not parameters.get("boundary"):
        request.answer(400, "The boundary is missing.")
        return
    announced = int(request.headers.get("Content-Length", 0))
    if announced > service.request_limit:
        request.close_connection = True
        request.left = 0
        request.chunked = False
        request.answer(413, "Request body too large.", headers={"Connection": "close"})
        return
    if fault is not None and fault.kind is FaultKind.RESET_IN_BODY:
        while request.received <= announced // 2 and request.read(max(1, min(BLOCK, announced // 4))):
            pass
        raise Cut
    outcomes = []
    if single:
        path = service.shelf.new_file()
        with path.open("wb") as file:
            while data := request.read():
                file.write(data)
        outcomes.append(keep(service, path, study, fault))
    else:
        for number, path in enumerate(split(service, request, parameters["boundary"])):
            failing = fault if number == 0 or (fault and fault.kind is not FaultKind.PARTLY) else None
            outcomes.append(keep(service, path, study, failing))
    tell(service, request, study, outcomes)


def tell(service: AzureService, request: Request, study: str, outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.failure]
    stored = [outcome for outcome in outcomes if not outcome.failure]
    if not outcomes:
        request.answer(204)
        return
    base = f"{service.url}/{request.parts[0]}/studies/"
    found: dict[str, Any] = {}
    if study and stored:
        found["00081190"] = {"vr": "UR", "Value": [base + study]}
    if failed:
        found["00081198"] = {"vr": "SQ", "Value": [outcome.json(base) for outcome in failed]}
    if stored:
        found["00081199"] = {"vr": "SQ", "Value": [outcome.json(base) for outcome in stored]}
    status = 409 if not stored else 202 if failed or any(o.warning for o in stored) else 200
    request.answer_json(status, found, DICOM_JSON)


def keep(service: AzureService, incoming: Path, study: str, fault: Fault | None) -> Outcome:
    """Check one file, and put it on the shelf."""
    try:
        head = pydicom.dcmread(incoming, stop_before_pixels=True)
    except (InvalidDicomError, EOFError, ValueError, AttributeError, NotImplementedError):
        incoming.unlink()
        return Outcome(failure=272)
    found = Outcome(text(head, "SOPClassUID"), text(head, "SOPInstanceUID"))
    key: Key = (text(head, "StudyInstanceUID"), text(head, "SeriesInstanceUID"), found.sop_uid)
    found.path = f"{key[0]}/series/{key[1]}/instances/{key[2]}"
    syntax = str(head.file_meta.get("TransferSyntaxUID", ""))
    check(found, head, key, syntax, study)
    if not found.failure and fault is not None and fault.kind is FaultKind.PARTLY:
        found.failure = 272
    if not found.failure and (service.liar or (fault is not None and fault.kind is FaultKind.FORGETS)):
        incoming.unlink()
        return found
    found.failure = found.failure or service.shelf.begin(key)
    if found.failure:
        incoming.unlink()
        return found
    with incoming.open("r+b") as file:
        file.write(b"\0" * 128)  # "Preamble Sanitization"
    service.shelf.keep(key, incoming, syntax, indexed(head))
    return found


def check(found: Outcome, head: pydicom.Dataset, key: Key, syntax: str, study: str) -> None:
    """What the service demands of a file, and what it only remarks."""
    wrong = [
        name for name, uid in zip(("0020,000d", "0020,000e", "0008,0018"), key, strict=True) if not UID.fullmatch(uid)
    ]
    if "PatientID" not in head or len(text(head, "PatientID")) > 64 or "\\" in text(head, "PatientID"):
        wrong.append("0010,0020")
    if wrong:
        found.failure = 43264
        found.remarks = [f"({tag}) - The required tag is missing or does not validate." for tag in wrong]
    elif syntax in ("", _IMPLICIT):
        found.failure = 43264
        found.remarks = ["Implicit VR is not allowed."]
    elif study and key[0] != study:
        found.failure = 43265
    else:
        for keyword in ("StudyDate", "PatientBirthDate"):
            value = text(head, keyword)
            if value and not _DATE.fullmatch(value):
                tag = pydicom.datadict.tag_for_keyword(keyword) or 0
                found.warning = 1
                found.remarks.append(
                    f'({tag >> 16:04x},{tag & 0xFFFF:04x}) - Content "{value}" does not validate VR DA'
                )


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """The media type in small letters, and its parameters without quotes."""
    kind, *rest = (part.strip() for part in value.split(";"))
    parameters = {}
    for part in rest:
        name, _, text = part.partition("=")
        parameters[name.strip().lower()] = text.strip().strip('"')
    return kind.lower(), parameters


def split(service: AzureService, request: Request, boundary: str) -> Iterator[Path]:
    """The parts of a multipart body (RFC 2046 section 5.1.1), each written to a file as it comes."""
    delimiter = b"\r\n--" + boundary.encode()
    buffer = b"\r\n"

    def more() -> bool:
        nonlocal buffer
        if request.received > service.request_limit:
            raise Cut
        data = request.read(BLOCK)
        buffer += data
        return bool(data)

    def up_to_delimiter(file: BinaryIO | None) -> bool:
        """Pass on what comes before the next delimiter; False at the end of the body."""
        nonlocal buffer
        while (at := buffer.find(delimiter)) < 0:
            keep_back = len(delimiter)
            if file is not None and len(buffer) > keep_back:
                file.write(buffer[:-keep_back])
            if len(buffer) > keep_back:
                buffer = buffer[-keep_back:]
            if not more():
                return False
        if file is not None:
            file.write(buffer[:at])
        buffer = buffer[at + len(delimiter) :]
        return True

    if not up_to_delimiter(None):
        return
    while True:
        while len(buffer) < 2:
            if not more():
                return
        if buffer.startswith(b"--"):
            return
        while b"\r\n\r\n" not in buffer:
            if not more():
                return
        buffer = buffer.partition(b"\r\n\r\n")[2]
        path = service.shelf.new_file()
        with path.open("wb") as file:
            whole = up_to_delimiter(file)
        if not whole:
            path.unlink()
            raise Cut
        yield path
