"""Implicit VR written as Explicit VR while it streams: byte for byte what is made of the whole in memory."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from core.wire.dimse.explicit_stream import ExplicitStream
from core.wire.dimse.file_meta import split_head
from core.wire.dimse.transcode import EXPLICIT, IMPLICIT, NotConvertibleError, transcoded
from tests.support.studies import make_study

PIXELS = 3 << 20


class Source:
    """A stream that gives at most so many bytes at a time."""

    def __init__(self, data: bytes, most: int = 1 << 20, *, told: bool = True) -> None:
        self.length: int | None = len(data) if told else None
        self._data = memoryview(data)
        self._most = most

    def readinto(self, view: memoryview, /) -> int:
        count = min(len(view), len(self._data), self._most)
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


def read(stream: ExplicitStream, most: int = 70_000) -> bytes:
    whole = bytearray()
    piece = memoryview(bytearray(most))
    while count := stream.readinto(piece):
        whole += piece[:count]
    return bytes(whole)


def expected(data: bytes) -> bytes:
    return b"".join(transcoded(data, source=IMPLICIT, target=EXPLICIT))


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


@pytest.fixture(scope="module")
def image() -> bytes:
    return make_study(instances=1, size_bytes=PIXELS, transfer_syntax=ImplicitVRLittleEndian)[0]


@pytest.mark.parametrize("most", [1 << 20, 1000, 7])
def test_an_image_is_the_same_as_if_it_were_held(image: bytes, most: int) -> None:
    data = bytes(split_head(image).data_set)  # type: ignore[arg-type]
    stream = ExplicitStream(Source(data, most))
    made = read(stream)
    assert made == expected(data)
    assert stream.length == len(made)
    assert dcmread(BytesIO(image)).PixelData in made


def test_what_follows_the_pixels_is_converted_too(image: bytes) -> None:
    data = bytes(split_head(image).data_set) + element(0xFFFCFFFC, b"\0" * 10)  # type: ignore[arg-type]
    stream = ExplicitStream(Source(data))
    assert stream.length is None, "what is behind a large value is not known yet"
    assert read(stream) == expected(data)


def test_a_stream_of_unknown_length(image: bytes) -> None:
    data = bytes(split_head(image).data_set)  # type: ignore[arg-type]
    stream = ExplicitStream(Source(data, told=False))
    assert stream.length is None
    assert read(stream) == expected(data)


def test_sequences_of_both_kinds_across_blocks() -> None:
    item = element(0x00081150, b"1.2") + element(0x00081155, b"1.2.3.4 ")
    defined = element(0x00081140, element(0xFFFEE000, item) * 5000)
    undefined = element(
        0x00081115,
        (element(0xFFFEE000, item, 0xFFFFFFFF) + element(0xFFFEE00D, b"")) * 20000 + element(0xFFFEE0DD, b""),
        0xFFFFFFFF,
    )
    data = undefined + defined + element(0x00280103, b"\1\0") + element(0x00280106, b"\xff\xff")
    assert read(ExplicitStream(Source(data, 5000))) == expected(data)


@pytest.mark.parametrize("cut", [1, 7, 9, 500, -1])
def test_what_is_cut_short_is_no_image(image: bytes, cut: int) -> None:
    data = bytes(split_head(image).data_set)[:cut]  # type: ignore[arg-type]
    with pytest.raises(NotConvertibleError):
        read(ExplicitStream(Source(data)))


def test_encapsulated_pixels_and_stray_items_are_refused_before_a_byte_goes_out() -> None:
    for data in (
        element(0x7FE00010, element(0xFFFEE000, b"") + element(0xFFFEE0DD, b""), 0xFFFFFFFF)[:-8],
        element(0xFFFEE000, b"\0" * 8),
        element(0x00081115, b"\0" * 40, 0xFFFFFFFF),
    ):
        with pytest.raises(NotConvertibleError):
            ExplicitStream(Source(data))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x00080005, 0x00080018, 0x00100010, 0x00280010, 0x00280106, 0x00091010, 0x00420011]),
            st.binary(max_size=64).map(lambda b: b + b"\0" * (len(b) % 2)),
        ),
        max_size=12,
    ),
    st.integers(1, 40),
)
def test_any_elements_in_any_pieces(elements: list[tuple[int, bytes]], most: int) -> None:
    data = b"".join(element(tag, value) for tag, value in elements)
    assert read(ExplicitStream(Source(data, most))) == expected(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end(data: bytes) -> None:
    with suppress(NotConvertibleError):
        read(ExplicitStream(Source(data)))
