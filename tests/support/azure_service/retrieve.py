"""WADO-RS: an instance alone, a series or study as multipart, and metadata."""

from __future__ import annotations

import hashlib
import io
import uuid
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.azure_service.listener import BLOCK, Request
from tests.support.azure_service.shelf import Held
from tests.support.azure_service.store import DICOM_JSON, content_type

if TYPE_CHECKING:
    from tests.support.azure_service.service import AzureService

_NO_METADATA = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def answer(service: AzureService, request: Request, key: tuple[str, ...]) -> None:
    """``GET /v2/studies/{study}[/series/{series}[/instances/{instance}]]``."""
    held = service.shelf.find(*key)
    if not held:
        request.answer(404, "The specified instance cannot be found.")
        return
    wanted = _wanted(request, single=len(key) == 3)
    if wanted is None:
        request.answer(406, "The Accept header is not supported.")
        return
    single, syntax = wanted
    if single and syntax in ("*", held[0].syntax):
        request.answer_file(held[0].path, f"application/dicom; transfer-syntax={held[0].syntax}")
        return
    try:
        bodies = [(one, None if syntax in ("*", one.syntax) else _transcoded(one, syntax)) for one in held]
    except Exception as error:  # noqa: BLE001 - whatever a codec says
        request.answer(406, f"The instance can't be transcoded: {type(error).__name__}.")
        return
    if single:
        request.answer(200, bodies[0][1] or b"", f"application/dicom; transfer-syntax={syntax}")
        return
    _multipart(request, bodies)


def metadata(service: AzureService, request: Request, key: tuple[str, ...]) -> None:
    """``GET …/metadata``: no bulk data, with an entity tag."""
    held = service.shelf.find(*key)
    if not held:
        request.answer(404, "The specified instance cannot be found.")
        return
    etag = hashlib.sha256("".join("".join(one.key) for one in held).encode()).hexdigest()[:32]
    if request.headers.get("If-None-Match") == etag:
        request.answer(304)
        return
    request.answer_json(200, [_described(one) for one in held], DICOM_JSON, {"ETag": etag})


def _described(held: Held) -> dict[str, Any]:
    head = pydicom.dcmread(held.path, stop_before_pixels=True)
    found = head.to_json_dict(bulk_data_threshold=1 << 30, suppress_invalid_tags=True)
    return {tag: value for tag, value in found.items() if value.get("vr") not in _NO_METADATA}


def _wanted(request: Request, *, single: bool) -> tuple[bool, str] | None:
    """Whether a single part is asked for, and the transfer syntax; None where Accept has nothing that is offered."""
    accept = request.headers.get("Accept", "*/*")
    for choice in _choices(accept):
        kind, parameters = content_type(choice)
        syntax = parameters.get("transfer-syntax", ExplicitVRLittleEndian)
        if syntax not in ("*", ExplicitVRLittleEndian, JPEG_2000):
            continue
        if single and kind in ("application/dicom", "*/*"):
            return True, syntax
        if kind == "*/*" or (kind == "multipart/related" and parameters.get("type") == "application/dicom"):
            return False, syntax
    return None


def _choices(accept: str) -> list[str]:
    """The alternatives of Accept; a comma inside of quotes does not part them."""
    found, quoted = [""], False
    for letter in accept:
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            found.append("")
        else:
            found[-1] += letter
    return found


def _transcoded(held: Held, syntax: str) -> bytes:
    dataset = pydicom.dcmread(held.path)
    if syntax != ExplicitVRLittleEndian:
        raise ValueError(syntax)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _multipart(request: Request, bodies: list[tuple[Held, bytes | None]]) -> None:
    boundary = uuid.uuid4().hex
    request.drain()
    request.begin(200, f'multipart/related; type="application/dicom"; boundary="{boundary}"', length=None)

    def chunk(data: bytes) -> None:
        if data:
            request.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    for held, body in bodies:
        syntax = held.syntax if body is None else ExplicitVRLittleEndian
        chunk(f"\r\n--{boundary}\r\nContent-Type: application/dicom; transfer-syntax={syntax}\r\n\r\n".encode())
        if body is not None:
            chunk(body)
            continue
        with held.path.open("rb") as file:
            while data := file.read(BLOCK):
                chunk(data)
    chunk(f"\r\n--{boundary}--\r\n".encode())
    request.wfile.write(b"0\r\n\r\n")
