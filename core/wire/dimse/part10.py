"""The DICOM file around a data set that came over an association: its head with the meta information (PS3.10 7.1)."""

from __future__ import annotations

import struct

from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE = b"\0" * 128 + b"DICM"


def file_head(sop_class: str, sop_uid: str, transfer_syntax: str) -> bytes:
    """What stands before the data set in a file. The same instance gives the same bytes, so digests can be compared."""
    elements = b"".join(
        (
            struct.pack("<HH2sHIH", 0x0002, 0x0001, b"OB", 0, 2, 0x0100),  # File Meta Information Version 00 01
            _text(0x0002, b"UI", sop_class),
            _text(0x0003, b"UI", sop_uid),
            _text(0x0010, b"UI", transfer_syntax),
            _text(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _text(element: int, vr: bytes, value: str) -> bytes:
    encoded = value.encode("ascii", "replace")
    if len(encoded) % 2:
        encoded += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, element, vr, len(encoded)) + encoded
