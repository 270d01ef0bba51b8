"""A small DICOMweb service that a test makes answer in ways that no real one can be brought to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.raw_http import Peer, RawServer


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def parts(self) -> list[bytes]:
        """The parts of a multipart body."""
        boundary = re.search(r'boundary="?([^";]+)', self.headers["content-type"])
        assert boundary is not None
        pieces = self.body.split(b"--" + boundary[1].encode())
        assert pieces[-1].strip() == b"--", "the final boundary is missing"
        return [piece.partition(b"\r\n\r\n")[2][:-2] for piece in pieces[1:-1]]


@dataclass(frozen=True)
class Reply:
    """What is answered: a status, headers and a body; a list is sent as DICOM JSON."""

    status: int = 200
    body: bytes | list[Any] | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)


Answering = Callable[[Asked], Reply | None]
"""None closes the connection without an answer."""


@contextmanager
def web_service(answering: Answering) -> Iterator[tuple[str, list[Asked]]]:
    """The address of a running service, and the requests that it has had."""
    asked: list[Asked] = []

    def serve(peer: Peer) -> None:
        while head := peer.head():
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
            chunked = "chunked" in headers.get("transfer-encoding", "")
            body = peer.chunks() if chunked else peer.body(int(headers.get("content-length", 0)))
            address = urlsplit(target)
            query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
            one = Asked(method, unquote(address.path), query, headers, body)
            asked.append(one)
            reply = answering(one)
            if reply is None:
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            kind = {} if isinstance(reply.body, bytes) else {"Content-Type": "application/dicom+json"}
            extra = "".join(f"{name}: {value}\r\n" for name, value in {**kind, **reply.headers}.items())
            peer.answer(content, status=f"{reply.status} Said", extra=extra)

    with RawServer(serve) as server:
        yield f"{server.url}/web", asked


def study_item(number: int, *, date: str = "20240315", images: int = 1) -> dict[str, Any]:
    """A study as QIDO-RS lists it."""
    return {
        "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
        "00080020": {"vr": "DA", "Value": [date]},
        "00080030": {"vr": "TM", "Value": ["101500"]},
        "00080050": {"vr": "SH"},
        "00080061": {"vr": "CS", "Value": ["CT"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": f"Test^{number}"}]},
        "00100020": {"vr": "LO", "Value": [f"P{number}"]},
        "00081030": {"vr": "LO"},
        "00201208": {"vr": "IS", "Value": [images]},
    }


def series_item(series_uid: str, images: int | None = None) -> dict[str, Any]:
    counted = {} if images is None else {"00201209": {"vr": "IS", "Value": [images]}}
    return {
        "0020000E": {"vr": "UI", "Value": [series_uid]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        **counted,
    }


def image_item(series_uid: str, sop_uid: str) -> dict[str, Any]:
    return {
        "0020000E": {"vr": "UI", "Value": [series_uid]},
        "00080018": {"vr": "UI", "Value": [sop_uid]},
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
    }


def stow_item(
    stored: Sequence[str] = (), failed: dict[str, int | None] | None = None, warned: dict[str, int] | None = None
) -> dict[str, Any]:
    """The data set of an answer to STOW-RS."""

    def items(reasons: dict[str, int | None], tag: str) -> list[dict[str, Any]]:
        return [
            {"00081155": {"vr": "UI", "Value": [uid]}, **({} if why is None else {tag: {"vr": "US", "Value": [why]}})}
            for uid, why in reasons.items()
        ]

    referenced: dict[str, int | None] = {**dict.fromkeys(stored), **(warned or {})}
    found: dict[str, Any] = {"00081199": {"vr": "SQ", "Value": items(referenced, "00081196")}}
    if failed:
        found["00081198"] = {"vr": "SQ", "Value": items(failed, "00081197")}
    return found


def paged(items: list[dict[str, Any]], asked: Asked, *, cap: int = 0, offset: bool = True) -> list[dict[str, Any]]:
    """A page of a list: at most `cap` items whatever is asked for; `offset` heeded or not."""
    start = int(asked.query.get("offset", 0)) if offset else 0
    limit = int(asked.query.get("limit", len(items)))
    return items[start : start + (min(limit, cap) if cap else limit)]
