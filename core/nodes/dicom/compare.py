"""Whether a DICOM node holds this very image: DIMSE tells no digests, so it is fetched and compared."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from core.model.errors import FerryError, TransportError, TransportFault
from core.model.quietly import quietly
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Body, ByteStream
from core.nodes.dicom.retrieve import DicomRetrieve
from core.wire.abort import Abort
from core.wire.dimse.file_meta import split_head

LARGEST = 512 << 20
"""Bytes of an image up to which it is compared: both are held in memory."""
_PIECE = 1 << 18


class DicomCompare(DicomRetrieve):
    """`CompareByFetching` of a DICOM node."""

    def holds_same(self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None) -> bool:
        """By C-GET or C-MOVE: every attribute and all pixels, whatever the lengths of sequences are written like.

        Raises
        ------
        TransportError
            ``ABORTED``; and what `body` raises.
        """
        ours = _read(body)
        try:
            with self.open(instance, abort=abort) as held:
                theirs = _read(held)
        except FerryError as error:
            if isinstance(error, TransportError) and error.fault is TransportFault.ABORTED:
                raise
            return False  # it can't be fetched, so it can't be told
        return ours is not None and theirs is not None and _are_same(ours, theirs)


def _read(body: Body | ByteStream) -> bytes | None:
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


def _are_same(ours: bytes, theirs: bytes) -> bool:
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
