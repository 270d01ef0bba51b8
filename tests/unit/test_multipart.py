"""Multipart bodies in both directions: every way of cutting them into pieces, and what hostile servers make of them."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from core.model.errors import TransportError, TransportFault
from core.wire.multipart import BUFFER, MultipartReader, media_type
from core.wire.multipart_body import MultipartBody

TYPE = 'multipart/related; type="application/dicom"; boundary=XX'


class Pieces:
    """A body that comes in pieces of these sizes, over and over."""

    def __init__(self, body: bytes, *sizes: int) -> None:
        self.length: int | None = None
        self._body = memoryview(body)
        self._sizes = itertools.cycle(sizes or (1 << 30,))

    def readinto(self, view: memoryview, /) -> int:
        count = min(len(self._body), len(view), next(self._sizes))
        view[:count] = self._body[:count]
        self._body = self._body[count:]
        return count


def parts(body: bytes, *sizes: int, content_type: str = TYPE, step: int = 1 << 16) -> list[bytes]:
    reader = MultipartReader(Pieces(body, *sizes), content_type, "test:80")
    found = []
    while (part := reader.next()) is not None:
        whole = bytearray()
        view = memoryview(bytearray(step))
        while count := part.readinto(view):
            whole += view[:count]
        found.append(bytes(whole))
    return found


def read_all(body: MultipartBody) -> None:
    while body.readinto(memoryview(bytearray(1000))):
        pass


def made(*contents: bytes, sized: bool = False, preamble: bytes = b"", epilogue: bytes = b"\r\n") -> bytes:
    whole = preamble
    for content in contents:
        length = b"Content-Length: %d\r\n" % len(content) if sized else b""
        whole += b"--XX\r\nContent-Type: application/dicom\r\n%b\r\n%b\r\n" % (length, content)
    return whole + b"--XX--" + epilogue


UNSIZED = [b"", b"x", b"\r\n", b"\r\n--X", b"\r\n--XY--", b"a\r\n--XXbc", b"--XXbc", bytes(range(256)) * 9]
CONTENTS = [*UNSIZED, b"--XX", b"--XX--\r\n", b"\r\n\r\n--XX" * 3]  # the last ones only where their length is told


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_parts_come_out_as_they_went_in_however_they_are_cut(size: int, sized: bool) -> None:
    contents = [c for c in CONTENTS if sized or c in UNSIZED]
    for step in (1, 5, 1 << 16):
        assert parts(made(*contents, sized=sized), size, step=step) == contents


def test_a_preamble_and_an_epilogue_are_no_parts() -> None:
    body = made(b"one", b"two", preamble=b"nothing\r\n--XXY is no boundary\r\n", epilogue=b"\r\nthe end --XX")
    assert parts(body, 5) == [b"one", b"two"]
    assert parts(made(b"one", epilogue=b"")) == [b"one"]
    assert parts(b"\r\n" + made(b"one")) == [b"one"]


def test_blanks_may_follow_a_boundary_and_a_part_may_have_no_headers() -> None:
    assert parts(b"--XX \t\r\n\r\none\r\n--XX\r\n\r\n\r\n--XX--") == [b"one", b""]
    assert parts(b"--XX--\r\n") == []


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; boundary=XX",
        'Multipart/Related; type="application/dicom"; boundary="XX"',
        'multipart/related;boundary=XX;type="application/dicom";start="<a>"',
        'multipart/related; type="a;b=\\"c\\""; boundary=XX',
    ],
)
def test_the_boundary_is_found_in_quotes_or_not(content_type: str) -> None:
    assert parts(made(b"one"), content_type=content_type) == [b"one"]


def test_a_boundary_with_the_characters_that_the_standard_allows() -> None:
    boundary = "a'()+_,-./:=?b c" + "d" * 54
    body = made(b"one", b"two").replace(b"XX", boundary.encode())
    assert parts(body, 11, content_type=f'multipart/related; boundary="{boundary}"') == [b"one", b"two"]


@pytest.mark.parametrize(
    "content_type",
    ["application/dicom", "multipart/related", "multipart/related; boundary=", "text/html; boundary=XX",
     'multipart/related; boundary="ends with a blank "', "multipart/related; boundary=" + "x" * 71,
     'multipart/related; boundary="\x01"'],
)  # fmt: skip
def test_without_a_usable_boundary_nothing_is_read(content_type: str) -> None:
    with pytest.raises(TransportError) as raised:
        MultipartReader(Pieces(b""), content_type, "test:80")
    assert raised.value.fault is TransportFault.PROTOCOL


@pytest.mark.parametrize("sized", [False, True])
def test_a_body_that_is_cut_anywhere_never_looks_whole(sized: bool) -> None:
    """Up to the very last character of the boundary that ends the last part."""
    body = made(b"one" * 20, b"two" * 20, sized=sized, epilogue=b"")
    for end in range(len(body)):
        with pytest.raises(TransportError) as raised:
            parts(body[:end], 13)
        assert raised.value.fault is TransportFault.CUT, end
    assert len(parts(body, 13)) == 2


@pytest.mark.parametrize("said", [0, 1, 19, 21, 100, 10**17])
def test_a_part_that_has_another_length_than_it_says_is_refused(said: int) -> None:
    body = made(b"x" * 20, b"y" * 5).replace(b"dicom\r\n\r\nx", b"dicom\r\nContent-Length: %d\r\n\r\nx" % said)
    with pytest.raises(TransportError) as raised:
        parts(body, 9)
    assert raised.value.fault in (TransportFault.PROTOCOL, TransportFault.CUT)


@pytest.mark.parametrize(
    "body",
    [
        b"--XX\r\nContent-Length: -5\r\n\r\nx\r\n--XX--",
        b"--XX\r\nContent-Length: 1e3\r\n\r\nx\r\n--XX--",
        b"--XX\r\nno header line\r\n\r\nx\r\n--XX--",
        b"--XX\r\n" + b"A: b\r\n" * 10_000 + b"\r\nx\r\n--XX--",
        b"--XX\r\nA: " + b"b" * 100_000 + b"\r\n\r\nx\r\n--XX--",
        b"--XX something\r\n\r\nx\r\n--XX--",
        b"x" * 200_000,
        b"<html><body>Please log in</body></html>" * 3000,
    ],
)
def test_what_is_no_multipart_is_refused_and_held_within_bounds(body: bytes) -> None:
    with pytest.raises(TransportError) as raised:
        parts(body, 4096)
    assert raised.value.fault in (TransportFault.PROTOCOL, TransportFault.CUT)


def test_a_part_that_is_not_read_is_skipped() -> None:
    reader = MultipartReader(Pieces(made(b"one" * 100_000, b"two", sized=True), 1000), TYPE, "test:80")
    first = reader.next()
    assert first is not None
    assert first.readinto(memoryview(bytearray(10))) == 10
    second = reader.next()
    assert second is not None
    assert second.length == 3
    assert not reader.at_boundary
    assert reader.next() is None
    assert reader.next() is None


class Endless:
    """A part of two gigabytes that is never held anywhere."""

    def __init__(self, size: int, *, sized: bool) -> None:
        self.length: int | None = None
        length = f"Content-Length: {size}\r\n" if sized else ""
        self._head = f"--XX\r\n{length}\r\n".encode()
        self._left = size
        self._tail = b"\r\n--XX--"

    def readinto(self, view: memoryview, /) -> int:
        if self._head:
            count = min(len(self._head), len(view))
            view[:count], self._head = self._head[:count], self._head[count:]
            return count
        if self._left:
            count = min(self._left, len(view))
            self._left -= count
            return count  # whatever is there: it has no boundary in it
        count = min(len(self._tail), len(view))
        view[:count], self._tail = self._tail[:count], self._tail[count:]
        return count


@pytest.mark.parametrize("sized", [False, True])
def test_two_gigabytes_pass_in_constant_memory_and_without_work_for_each_byte(sized: bool) -> None:
    size = 2_000_000_000
    reader = MultipartReader(Endless(size, sized=sized), TYPE, "test:80")
    view = memoryview(bytearray(1 << 18))
    part = reader.next()
    assert part is not None
    began = time.process_time()
    total = 0
    while count := part.readinto(view):
        total += count
    assert total == size
    assert reader.next() is None
    assert len(reader._buffer) == BUFFER
    assert time.process_time() - began < 20  # a loop over the bytes would take minutes


def test_what_is_written_is_what_is_read_whatever_the_pieces() -> None:
    chance = random.Random(1)
    contents = [chance.randbytes(chance.randrange(300_000)) for _ in range(5)]
    body = MultipartBody([contents[0], Pieces(contents[1], 1000), memoryview(contents[2]), contents[3], contents[4]])
    assert body.length is None
    whole = bytearray()
    view = memoryview(bytearray(12345))
    while count := body.readinto(view):
        whole += view[:count]
    assert parts(bytes(whole), content_type=body.content_type) == contents


def test_a_body_of_known_lengths_tells_its_own_and_can_start_again() -> None:
    body = MultipartBody([b"one", memoryview(b"two" * 30_000)])
    view = memoryview(bytearray(1 << 20))
    count = body.readinto(view)
    assert count == body.length
    first = bytes(view[:count])
    assert body.readinto(view) == 0
    assert body.rewind()
    assert body.readinto(view) == count
    assert bytes(view[:count]) == first
    assert body.whole() is body
    assert isinstance(MultipartBody([b"one"]).whole(), bytes)


def test_a_stream_that_was_read_cannot_start_again() -> None:
    stream = Pieces(b"abc")
    stream.length = 3
    body = MultipartBody([stream])
    assert body.rewind()
    assert body.readinto(memoryview(bytearray(1000))) == body.length
    assert not body.rewind()


@pytest.mark.parametrize("said", [2, 4])
def test_a_stream_of_another_length_than_it_says_sends_no_whole_request(said: int) -> None:
    stream = Pieces(b"abc")
    stream.length = said
    body = MultipartBody([stream])
    with pytest.raises(TransportError) as raised:
        read_all(body)
    assert raised.value.fault is TransportFault.CUT


def test_a_media_type_is_read_with_its_parameters() -> None:
    assert media_type("Application/DICOM+json; charset=utf-8") == ("application/dicom+json", {"charset": "utf-8"})
    assert media_type("") == ("", {})
    assert media_type("text/html;;; =x; a") == ("text/html", {})
