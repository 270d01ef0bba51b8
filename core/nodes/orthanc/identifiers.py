"""Orthanc's own identifiers, computed from the DICOM identifiers as Orthanc does; and long lists of them, kept small.

Orthanc book, "Orthanc identifiers": the SHA-1 of the DICOM identifiers joined by "|", so that source and
destination agree on them. Orthanc strips each of its padding spaces and zero bytes before.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

_PADDING = " \t\n\v\f\r\0"
_SIZE = 20  # bytes of a SHA-1
_LONG = 500  # identifiers: lists of more are kept small
_SPACE = rb"[ \t\r\n]{0,64}"
_WRITTEN = rb'"([0-9a-f]{8}(?:-[0-9a-f]{8}){4})"' + _SPACE
_START = re.compile(rb"\[" + _SPACE + rb"(?=" + _WRITTEN + rb",)")  # in no text: a quotation mark there is escaped
_NEXT = re.compile(_WRITTEN + rb"(?:," + _SPACE + rb"|(\]))")
_LOOK = 256  # bytes: an identifier with what is around it is shorter
_STRIPES = 256
_CAME = -1


def _formatted(text: str) -> str:
    return _written(_sha1(text))


def _sha1(text: str) -> bytes:
    return hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).digest()


def _written(digest: bytes) -> str:
    digits = digest.hex()
    return f"{digits[:8]}-{digits[8:16]}-{digits[16:24]}-{digits[24:32]}-{digits[32:]}"


def study_id(patient_id: str, study_uid: str) -> str:
    return _formatted(f"{patient_id.strip(_PADDING)}|{study_uid.strip(_PADDING)}")


def series_id(patient_id: str, study_uid: str, series_uid: str) -> str:
    return _formatted(f"{patient_id.strip(_PADDING)}|{study_uid.strip(_PADDING)}|{series_uid.strip(_PADDING)}")


def instance_id(patient_id: str, study_uid: str, series_uid: str, sop_uid: str) -> str:
    return _formatted(
        f"{patient_id.strip(_PADDING)}|{study_uid.strip(_PADDING)}"
        f"|{series_uid.strip(_PADDING)}|{sop_uid.strip(_PADDING)}"
    )


def _read(identifier: str) -> bytes | None:
    """The SHA-1 in an identifier; None where it isn't written as Orthanc writes it."""
    try:
        digest = bytes.fromhex(identifier.replace("-", ""))
    except ValueError:
        return None
    return digest if len(digest) == _SIZE and _written(digest) == identifier else None


class ListSieve:
    """Takes the long lists of Orthanc identifiers out of a JSON text while it comes in.

    A series of 50,000 images is a text of 2.7 MB, read and parsed in one piece some 10 MB; of the sieve it is 1 MB.
    """

    def __init__(self) -> None:
        self._apart = f"list {secrets.token_hex(16)}"  # a name that no server can guess
        self._lists: list[IdentifierList] = []
        self._text = bytearray()  # not looked at yet
        self._digests: bytearray | None = None  # of the list that we are in

    def take(self, part: bytes | memoryview) -> bytes:
        """The next part of the text; gives what is left of the text so far, each list a word in its place."""
        self._text += part
        return self._sifted(last=False)

    def end(self) -> bytes:
        """There is no more of it; gives what is left."""
        return self._sifted(last=True)

    def _sifted(self, last: bool) -> bytes:
        left = bytearray()
        place: int | None = 0
        while place is not None:
            del self._text[:place]
            place = self._inside(left, last) if self._digests is not None else self._outside(left, last)
        return bytes(left)

    def _outside(self, left: bytearray, last: bool) -> int | None:
        """Up to the beginning of a list; None when more of the text is needed to tell."""
        start = _START.search(self._text)
        if start is not None:
            left += self._text[: start.start()]
            self._digests = bytearray()
            return start.end()
        ready = len(self._text) if last else max(0, len(self._text) - _LOOK)
        left += self._text[:ready]
        del self._text[:ready]
        return None

    def _inside(self, left: bytearray, last: bool) -> int | None:
        """Up to the end of the list, or to what is no identifier."""
        digests, place, closed = self._digests, 0, False
        assert digests is not None
        while not closed and (last or len(self._text) - place > _LOOK):
            found = _NEXT.match(self._text, place)
            if found is None:
                break
            digests += bytes.fromhex(found[1].replace(b"-", b"").decode("ascii"))
            place, closed = found.end(), bool(found[2])
        else:
            if not closed:  # an identifier may be cut in two
                del self._text[:place]
                return None
        self._digests = None
        kept = IdentifierList(bytes(digests))
        if closed and len(kept) > _LONG:
            left += json.dumps({self._apart: len(self._lists)}).encode()
            self._lists.append(kept)
        else:
            left += b"[" + ",".join(f'"{one}"' for one in kept).encode() + (b"]" if closed else b"," if kept else b"")
        return place

    def loads(self, text: bytes) -> Any:
        """The value of what was left of the text, the lists back in their places; raises `ValueError` for no JSON."""
        if not self._lists:
            return json.loads(text)
        return json.loads(
            text, object_hook=lambda item: self._lists[item[self._apart]] if self._apart in item else item
        )


class IdentifierList(Sequence[str]):
    """Orthanc identifiers in order, kept as their SHA-1s.

    Parameters
    ----------
    digests
        20 bytes for each.
    """

    def __init__(self, digests: bytes) -> None:
        self._digests = digests

    def __len__(self) -> int:
        return len(self._digests) // _SIZE

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        places = range(len(self))[index]
        return self._at(places) if isinstance(places, int) else [self._at(place) for place in places]

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(len(self)))

    def _at(self, place: int) -> str:
        return _written(self._digests[place * _SIZE : (place + 1) * _SIZE])


class Outstanding:
    """Which identifiers of some lists have not come yet, in some 28 bytes each.

    Attributes
    ----------
    count : int
        How many those are.
    """

    def __init__(self, lists: Sequence[Sequence[str]]) -> None:
        self._stripes = [_Stripe() for _ in range(_STRIPES)]
        self.count = 0
        for number, listed in enumerate(lists):
            for one in listed:
                self.count += self._stripe(key := _key(one)).put(key, number)

    def take(self, identifier: str) -> int | None:
        """It has come: the number of its list; None where it is in none of them, or came before."""
        key = _key(identifier)
        stripe = self._stripe(key)
        number = stripe.of(key)
        if number < 0:
            return None
        stripe.put(key, _CAME)
        self.count -= 1
        return number

    def __contains__(self, identifier: str) -> bool:
        key = _key(identifier)
        return self._stripe(key).of(key) >= 0

    def _stripe(self, key: bytes) -> _Stripe:
        return self._stripes[hash(key) % _STRIPES]  # seeded: no server can put all into one


class _Stripe:
    """Some of the identifiers: their SHA-1s one after the other, and the number of the list of each."""

    __slots__ = ("_keys", "_numbers")

    def __init__(self) -> None:
        self._keys = bytearray()
        self._numbers = array("l")

    def put(self, key: bytes, number: int) -> bool:
        """Set the number of a key; whether that is new here."""
        place = self._place(key)
        if place is not None:
            self._numbers[place] = number
            return False
        self._keys += key
        self._numbers.append(number)
        return True

    def of(self, key: bytes) -> int:
        """The number of a key, `_CAME` where it came or isn't here."""
        place = self._place(key)
        return self._numbers[place] if place is not None else _CAME

    def _place(self, key: bytes) -> int | None:
        found = self._keys.find(key)
        while found % _SIZE and found >= 0:  # across the border of two others
            found = self._keys.find(key, found + 1)
        return found // _SIZE if found >= 0 else None


def _key(identifier: str) -> bytes:
    return _read(identifier) or _sha1(identifier)
