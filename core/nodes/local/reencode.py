"""Images that a node doesn't take in their own encoding, in another one without any loss."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from core.wire.dimse.file_meta import FileHead
from core.wire.dimse.fragments import ByteStream
from core.wire.dimse.part10 import file_head
from core.wire.dimse.transcode import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PIXEL_DATA,
    NotConvertibleError,
    Pieces,
    inflated,
    transcoded,
)

TARGETS = (EXPLICIT, IMPLICIT)
LARGEST = 512 << 20
"""Bytes of an image, before or after, up to which it is re-encoded: that is done in memory."""

#: Compressions from which every pixel comes back as it was.
_LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.57",  # JPEG Lossless, process 14
        "1.2.840.10008.1.2.4.70",  # JPEG Lossless, process 14, selection value 1
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    }
)
_PHOTOMETRIC, _PLANAR = 0x00280004, 0x00280006
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002, 0x7FE00003)  # of encapsulated frames only


class NotReencodableError(Exception):
    """It can't be had in another encoding without loss; the text says why."""


@dataclass(frozen=True, slots=True)
class Reencoded:
    """The data set of an image in another encoding, and what was done, in a sentence."""

    transfer_syntax: str
    data_set: ByteStream
    note: str


def reencoded(head: FileHead, sop_class: str, sop_uid: str, target: str) -> Reencoded:
    """An image in Explicit or Implicit VR Little Endian: inflated, written with or without VRs, or decompressed.

    Raises
    ------
    NotReencodableError
    TransportError, LocalError
        Of the stream that it is read from.
    """
    source = head.transfer_syntax
    try:
        data = _read(head.data_set)
        if source in (EXPLICIT, IMPLICIT):
            pieces = transcoded(data, source=source, target=target)
        elif source == DEFLATED:
            pieces = transcoded(inflated(data, LARGEST), source=EXPLICIT, target=target)
        elif source in _LOSSLESS:
            pieces = _decompressed(data, sop_class, sop_uid, source, target)
        else:
            raise NotReencodableError(f"{UID(source).name} can't be decompressed without loss, or is not known here")
    except NotConvertibleError as error:
        raise NotReencodableError(str(error)) from error
    return Reencoded(target, _Joined(pieces), note(source, target))


def note(source: str, target: str) -> str:
    """What was done to an image, as it is recorded with it."""
    return f"Sent re-encoded without loss: {UID(source).name} as {UID(target).name}."


def _decompressed(data: memoryview, sop_class: str, sop_uid: str, source: str, target: str) -> Pieces:
    """With native pixels (PS3.5 8.1.1); all else stays, but what says how the pixels are laid out."""
    decoder = get_decoder(UID(source))
    if not decoder.is_available:
        raise NotReencodableError(f"there is no decoder for {UID(source).name} on this computer")
    try:
        image = dcmread(BytesIO(file_head(sop_class, sop_uid, source) + data))
        expected = image.Rows * image.Columns * image.SamplesPerPixel * image.BitsAllocated // 8
        if expected * int(image.get("NumberOfFrames") or 1) > LARGEST:
            raise NotReencodableError("it is too large to be re-encoded here")
        pixels = bytearray()
        layout: dict[str, object] = {}
        for frame, found in decoder.iter_buffer(image, raw=True):
            pixels += frame
            layout = dict(found)
    except NotReencodableError:
        raise
    except Exception as error:  # decoders raise whatever they like for damaged pixels
        raise NotReencodableError(f"its pixels can't be decompressed ({type(error).__name__})") from error
    if layout.get("bits_allocated") != image.BitsAllocated:
        raise NotReencodableError("its pixels would be laid out in another way")
    if len(pixels) % 2:
        pixels += b"\0"
    native = b"OW" if image.BitsAllocated > 8 else b"OB"
    replace: dict[int, tuple[bytes, bytes] | None] = {
        PIXEL_DATA: (native, bytes(pixels)),
        **dict.fromkeys(_OFFSET_TABLES),
    }
    photometric = str(layout.get("photometric_interpretation") or image.PhotometricInterpretation)
    replace[_PHOTOMETRIC] = b"CS", photometric.encode().ljust(len(photometric) + len(photometric) % 2)
    if image.SamplesPerPixel > 1:
        replace[_PLANAR] = b"US", int(str(layout.get("planar_configuration") or 0)).to_bytes(2, "little")
    return transcoded(data, source=EXPLICIT, target=target, replace=replace)


def _read(data_set: bytes | memoryview | ByteStream) -> memoryview:
    if isinstance(data_set, (bytes, memoryview)):
        if len(data_set) > LARGEST:
            raise NotReencodableError("it is too large to be re-encoded here")
        return memoryview(data_set)
    whole = bytearray()
    piece = memoryview(bytearray(1 << 18))
    while count := data_set.readinto(piece):
        whole += piece[:count]
        if len(whole) > LARGEST:
            raise NotReencodableError("it is too large to be re-encoded here")
    return memoryview(bytes(whole))


class _Joined:
    """Pieces read one after the other."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = [memoryview(piece) for piece in pieces if len(piece)]
        self._pieces.reverse()
        self._length = sum(len(piece) for piece in self._pieces)

    @property
    def length(self) -> int | None:
        return self._length

    def readinto(self, view: memoryview, /) -> int:
        filled = 0
        while self._pieces and filled < len(view):
            piece = self._pieces.pop()
            count = min(len(piece), len(view) - filled)
            view[filled : filled + count] = piece[:count]
            filled += count
            if count < len(piece):
                self._pieces.append(piece[count:])
        return filled
