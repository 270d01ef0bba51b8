"""One DICOM file (PS3.10) on its way through processing steps: header in memory, large values streamed as they are."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from core.model.loading import load_pydicom
from core.steps.base import LargeValue, StepError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset

IN_MEMORY = 4 << 20  # files up to this size are held in memory while they are worked on
LARGE = 1 << 20  # binary values above this size stay where they are
BLOCK = 1 << 20
MOST_INFLATED = 8 << 30  # a deflated data set that would grow beyond is taken for a fault
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
SIGNATURES = (0xFFFAFFFA, 0x4FFE0001)  # Digital Signatures Sequence, MAC Parameters Sequence (PS3.3 C.12.1.1.3)
_MARKS = (b"\xfa\xff\xfa\xff", b"\xff\xfa\xff\xfa", b"\xfe\x4f\x01\x00", b"\x4f\xfe\x00\x01")  # their tags, encoded
_BINARY = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "UN", "OB or OW"})
_UNDEFINED = 0xFFFFFFFF


class Segments:
    """A file made of pieces: bytes, and ranges of other files. A byte stream of known length that can be rewound."""

    def __init__(self, pieces: Sequence[bytes | tuple[BinaryIO, int, int]]) -> None:
        self._pieces = [p for p in pieces if not isinstance(p, bytes) or p]
        self.size = sum(len(p) if isinstance(p, bytes) else p[2] - p[1] for p in self._pieces)
        self.length: int | None = self.size
        self._piece = 0
        self._at = 0

    def rewind(self) -> None:
        self._piece = self._at = 0

    def readinto(self, view: memoryview, /) -> int:
        filled = 0
        while filled < len(view) and self._piece < len(self._pieces):
            piece = self._pieces[self._piece]
            if isinstance(piece, bytes):
                count = min(len(piece) - self._at, len(view) - filled)
                view[filled : filled + count] = piece[self._at : self._at + count]
            else:
                file, start, end = piece
                file.seek(start + self._at)
                count = file.readinto(view[filled : filled + min(end - start - self._at, len(view) - filled)])  # type: ignore[attr-defined]
                if not count and self._at < end - start:
                    raise StepError("A file of the moment on this computer was cut off.", "Check the disk.")
            filled += count
            self._at += count
            size = len(piece) if isinstance(piece, bytes) else piece[2] - piece[1]
            if self._at >= size:
                self._piece, self._at = self._piece + 1, 0
        return filled

    def blocks(self) -> Iterator[memoryview]:
        """All of it from the start, block by block; each is valid until the next."""
        self.rewind()
        buffer = memoryview(bytearray(min(BLOCK, self.size) or 1))
        while count := self.readinto(buffer):
            yield buffer[:count]
        self.rewind()

    def whole(self) -> bytes:
        return b"".join(bytes(block) for block in self.blocks())


def temporary_file(folder: Path | None) -> BinaryIO:
    """A file of the moment without a name: it is gone when it is closed, or when this program ends in whatever way."""
    return tempfile.TemporaryFile(dir=folder, prefix="step-")


@dataclass(slots=True)
class DicomContent:
    """A parsed DICOM file whose large values stay in `file`.

    Attributes
    ----------
    file : BinaryIO
        The file as it was given; of `size` bytes.
    body : BinaryIO
        Where the encoded data set lies: `file` itself, or what it was inflated to.
    dataset : Dataset
        With `LargeValue` where a value was left in `body`.
    large : dict[int, tuple[int, int, int]]
        Where those elements lie in `body`: start of the element, start of its value, end.
    """

    file: BinaryIO
    size: int
    body: BinaryIO
    meta: FileMetaDataset
    dataset: Dataset
    syntax: str
    large: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def close(self) -> None:
        for one in {id(self.file): self.file, id(self.body): self.body}.values():
            one.close()

    def text(self, tag: int) -> str:
        """The value of a tag of the top level as text; empty where there is none. Several values have "\\" between."""
        element = self.dataset.get(tag)
        if element is None or element.value is None:
            return ""
        value = element.value
        return ("\\".join(str(v) for v in value) if element.VM > 1 else str(value)).strip(" \0")

    @property
    def unchanged(self) -> Segments:
        """The very bytes that were given."""
        return Segments([(self.file, 0, self.size)])


def parse(file: BinaryIO, folder: Path | None) -> DicomContent:
    """Parse a DICOM file; it belongs to what is given back from here on.

    Raises
    ------
    StepError
        It is no DICOM file, or damaged.
    OSError
        There is no room for it here.
    """
    try:
        return _parse(file, folder)
    except (StepError, OSError):
        raise
    except Exception as error:  # pydicom raises whatever damaged data makes it run into
        raise _unreadable(type(error).__name__) from error


def _unreadable(detail: str) -> StepError:
    return StepError(
        "The image can't be read as DICOM, so the steps can't be done.",
        "Look at it at the source with another program; nothing of it was sent.",
        detail=detail,
        code="step-unreadable",
    )


def _parse(file: BinaryIO, folder: Path | None) -> DicomContent:
    load_pydicom()
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.filereader import read_dataset

    size = file.seek(0, 2)
    file.seek(128)
    if file.read(4) != b"DICM":
        raise _unreadable("no DICM prefix")
    meta = FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2))
    start = file.tell()
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if not syntax:
        raise _unreadable("no Transfer Syntax UID")
    body = file
    if syntax == DEFLATED:
        body, start = _inflated(file, size, folder), 0
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    try:
        elements, large = _elements(body, start, implicit, little)
        dataset = Dataset(elements)
        _note_encoding(dataset, elements, implicit, little)
        dataset.file_meta = meta
    except BaseException:
        if body is not file:
            body.close()
        raise
    return DicomContent(file, size, body, meta, dataset, syntax, large)


def _note_encoding(dataset: Dataset, elements: dict[Any, Any], implicit: bool, little: bool) -> None:
    """Tell the data set how it was encoded, as pydicom does for what it reads itself."""
    from pydicom.charset import convert_encodings, default_encoding
    from pydicom.dataelem import convert_raw_data_element
    from pydicom.tag import BaseTag

    raw = elements.get(BaseTag(0x00080005))
    named = convert_raw_data_element(raw).value if raw is not None else None
    dataset.set_original_encoding(implicit, little, convert_encodings(named) if named else default_encoding)


def _inflated(file: BinaryIO, size: int, folder: Path | None) -> BinaryIO:
    """The data set of a deflated file (PS3.5 A.5) as it is before compression."""
    out = temporary_file(folder)
    try:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        while not inflate.eof:
            block = inflate.unconsumed_tail or file.read(BLOCK)
            if not block:
                raise _unreadable("the compressed data set ends early")
            out.write(inflate.decompress(block, BLOCK))
            if out.tell() > MOST_INFLATED:
                raise _unreadable(f"{size} bytes inflate to more than {MOST_INFLATED}")
        out.write(inflate.flush())
    except BaseException:
        out.close()
        raise
    return out


def _elements(
    body: BinaryIO, start: int, implicit: bool, little: bool
) -> tuple[dict[Any, Any], dict[int, tuple[int, int, int]]]:
    """Elements of the top level; binary values that are large, and pixel data of any size, stay where they are."""
    from pydicom.dataelem import DataElement, RawDataElement
    from pydicom.filereader import data_element_generator

    size = body.seek(0, 2)
    elements: dict[Any, Any] = {}
    large: dict[int, tuple[int, int, int]] = {}
    at = start
    while at < size:
        body.seek(at)
        for element in data_element_generator(
            body, implicit, little, stop_when=lambda tag, _vr, _length: tag in PIXEL_TAGS, defer_size=LARGE
        ):
            end = body.tell()
            if end > size:
                raise _unreadable("it ends in the middle of an element")
            if isinstance(element, RawDataElement):
                if element.value is None and element.length:
                    element = _held_or_left(element, body, at, end, large)
                elif element.value is not None and element.length not in (_UNDEFINED, len(element.value)):
                    raise _unreadable("it ends in the middle of an element")
            body.seek(end)
            at = end
            elements[element.tag] = element
        body.seek(at)
        if at >= size or (size - at < 8 and not body.read().strip(b"\0")):
            break
        tag, vr, value_at, length = _pixel_head(body, implicit, little)
        end = _end_of_items(body, value_at, little, size) if length == _UNDEFINED else value_at + length
        if end > size:
            raise _unreadable("it ends in the middle of the pixel data")
        large[tag] = (at, value_at, end)
        element = DataElement(tag, vr, LargeValue())
        elements[element.tag] = element
        at = end
    return elements, large


def _held_or_left(element: Any, body: BinaryIO, at: int, end: int, large: dict[int, tuple[int, int, int]]) -> Any:
    """What pydicom has passed over because of its size: texts and sequences are read, binary values left."""
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import DataElement

    vr = element.VR
    if vr is None:
        try:
            vr = dictionary_VR(element.tag)
        except KeyError:
            vr = "UN"
    if vr not in _BINARY:
        body.seek(element.value_tell)
        return element._replace(value=body.read(element.length))
    large[int(element.tag)] = (at, element.value_tell, end)
    return DataElement(element.tag, "OW" if " " in vr else vr, LargeValue())


def _pixel_head(body: BinaryIO, implicit: bool, little: bool) -> tuple[int, str, int, int]:
    """Tag, VR, place of the value and its length, of the pixel data that comes next."""
    order = "little" if little else "big"
    head = body.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12):
        raise _unreadable("it ends in the middle of an element")
    tag = int.from_bytes(head[0:2], order) << 16 | int.from_bytes(head[2:4], order)  # type: ignore[arg-type]
    if tag not in PIXEL_TAGS:
        raise _unreadable("an element that can't be read")
    if implicit:
        vr = {0x7FE00008: "OF", 0x7FE00009: "OD"}.get(tag, "OW")
        return tag, vr, body.tell(), int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
    vr = head[4:6].decode("ascii", "replace")
    if vr not in _BINARY:
        raise _unreadable("pixel data of an unknown value representation")
    return tag, vr, body.tell(), int.from_bytes(head[8:12], order)  # type: ignore[arg-type]


def _end_of_items(body: BinaryIO, at: int, little: bool, size: int) -> int:
    """Where a value of undefined length ends: item by item (PS3.5 A.4), for its delimiter may occur in the data."""
    order = "little" if little else "big"
    while at + 8 <= size:
        body.seek(at)
        head = body.read(8)
        group, element, length = head[0:2], head[2:4], int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
        tag = int.from_bytes(group, order) << 16 | int.from_bytes(element, order)  # type: ignore[arg-type]
        at += 8
        if tag == 0xFFFEE0DD:
            return at
        if tag != 0xFFFEE000 or length == _UNDEFINED:
            raise _unreadable("pixel data whose fragments can't be read")
        at += length
    raise _unreadable("it ends in the middle of the pixel data")


# writing ------------------------------------------------------------------------------------------------------


def encoded(content: DicomContent, folder: Path | None) -> tuple[Segments, list[BinaryIO]]:
    """The file with its data set as it is now, in the transfer syntax that it has; and files to be closed after it.

    The File Meta Information is made anew (PS3.10 section 7.1): this program has written the file. The preamble is
    empty, for what another format had in it would point to the wrong places.

    Raises
    ------
    StepError
        What the steps made of it can't be written.
    """
    try:
        pieces = _pieces(content)
        head = _head(content)
    except (StepError, OSError):
        raise
    except Exception as error:
        raise StepError(
            "What the steps made of the image can't be written as DICOM.",
            "Check the values that the steps set.",
            detail=type(error).__name__,
            code="step-unwritable",
        ) from error
    if content.syntax != DEFLATED:
        return Segments([head, *pieces]), []
    packed = temporary_file(folder)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for block in Segments(pieces).blocks():
        packed.write(deflate.compress(block))
    packed.write(deflate.flush())
    if packed.tell() % 2:
        packed.write(b"\0")
    return Segments([head, (packed, 0, packed.tell())]), [packed]


def _head(content: DicomContent) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 section 7.1), in explicit VR little endian."""
    elements = b"".join(
        (
            b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01",
            _meta_element(0x0002, b"UI", content.text(0x00080016)),
            _meta_element(0x0003, b"UI", content.text(0x00080018)),
            _meta_element(0x0010, b"UI", content.syntax),
            _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    length = b"\x02\x00\x00\x00UL\x04\x00" + len(elements).to_bytes(4, "little")
    return bytes(128) + b"DICM" + length + elements


def _meta_element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    return b"\x02\x00" + number.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value


def _pieces(content: DicomContent) -> list[bytes | tuple[BinaryIO, int, int]]:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import correct_ambiguous_vr_element, write_data_element

    dataset = content.dataset
    implicit, little = content.syntax == IMPLICIT, content.syntax != BIG_ENDIAN
    names = dataset.get("SpecificCharacterSet") or "iso8859"
    recoded = dataset.original_character_set != dataset._character_set  # texts that were never looked at as well
    pieces: list[bytes | tuple[BinaryIO, int, int]] = []

    def buffer() -> DicomBytesIO:
        made = DicomBytesIO()
        made.is_little_endian, made.is_implicit_VR = little, implicit
        return made

    out = buffer()
    for tag in sorted(dataset.keys()):
        if tag.element == 0:  # group lengths are retired (PS3.5 section 7.2), and wrong by now
            continue
        element: Any = dataset.get_item(tag)
        if not element.is_raw and isinstance(element.value, LargeValue):
            start, _value, end = content.large[int(tag)]
            pieces += [out.getvalue(), (content.body, start, end)]
            out = buffer()
            continue
        if recoded:
            element = dataset[tag]
        if not element.is_raw and " " in str(element.VR):
            element = correct_ambiguous_vr_element(element, dataset, little)
        write_data_element(out, element, names)
    return [*pieces, out.getvalue()]


def drop_signatures(content: DicomContent) -> bool:
    """Remove digital signatures, of the image and within its sequences: they no longer hold. Whether there were any."""
    dataset = content.dataset
    found = False
    for tag in SIGNATURES:
        if tag in dataset:
            del dataset[tag]
            found = True
    for tag in list(dataset.keys()):
        element: Any = dataset.get_item(tag)
        if element.is_raw:  # a sequence that nobody has looked into yet
            if element.VR in ("SQ", "UN", None) and any(mark in (element.value or b"") for mark in _MARKS):
                found = _drop_nested(dataset) or found
                break
        elif element.VR == "SQ":
            dropped = [_drop_from(item) for item in element.value or ()]
            found = any(dropped) or found
    return found


def _drop_nested(dataset: Dataset) -> bool:
    dropped = [_drop_from(item) for element in list(dataset) if element.VR == "SQ" for item in element.value or ()]
    return any(dropped)


def _drop_from(item: Dataset) -> bool:
    """From an item of a sequence, and what lies in it."""
    found = False
    for tag in SIGNATURES:
        if tag in item:
            del item[tag]
            found = True
    return _drop_nested(item) or found


def copied(segments: Segments, path: Path) -> None:
    """Write it to a file."""
    with path.open("wb") as out:
        for block in segments.blocks():
            out.write(block)


def opened(path: Path, folder: Path | None) -> BinaryIO:
    """A file's content as a file of the moment, which outlives it."""
    with path.open("rb") as file:
        if path.stat().st_size <= IN_MEMORY:
            return BytesIO(file.read())
        out = temporary_file(folder)
        shutil.copyfileobj(file, out, BLOCK)
        return out
