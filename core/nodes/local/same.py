"""Whether two files hold the same image: every attribute and all pixels, whatever lengths are written like."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from core.model.quietly import quietly
from core.nodes.base import Body, ByteStream
from core.wire.dimse.file_meta import split_head

LARGEST = 512 << 20
"""Bytes of an image up to which it is compared: both are held in memory."""
_PIECE = 1 << 18


def read_whole(body: Body | ByteStream) -> bytes | None:
    """All of a file; None where it is too large."""
    if isinstance(body, (bytes, memoryview)):
        return bytes(body) if len(body) <= LARGEST else None
    whole = bytearray()
    piece = memoryview(bytearray(_PIECE))
    while count := body.readinto(piece):
        if len(whole) + count > LARGEST:
            return None
        whole += piece[:count]
    return bytes(whole)


def are_same(ours: bytes, theirs: bytes) -> bool:
    try:
        one, two = split_head(ours), split_head(theirs)
        if one.transfer_syntax != two.transfer_syntax:
            return False
        assert isinstance(one.data_set, memoryview)
        assert isinstance(two.data_set, memoryview)
        if one.data_set == two.data_set:
            return True
        with quietly():
            return _parsed(one.data_set, one.transfer_syntax) == _parsed(two.data_set, one.transfer_syntax)
    except Exception:  # noqa: BLE001 - pydicom raises a dozen kinds for what it can't read: then nothing is known
        return False


def _parsed(data_set: memoryview, transfer_syntax: str) -> Dataset:
    """Without group lengths, which say nothing of an image."""
    syntax = UID(transfer_syntax)
    found = read_dataset(BytesIO(data_set), syntax.is_implicit_VR, syntax.is_little_endian)
    for tag in [element.tag for element in found if element.tag.element == 0]:
        del found[tag]
    return found
