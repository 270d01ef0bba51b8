"""Orthanc's own identifiers, computed from the DICOM identifiers as Orthanc does; and long lists of them, kept small.

Orthanc book, "Orthanc identifiers": the SHA-1 of the DICOM identifiers joined by "|", so that source and
destination agree on them. Orthanc strips each of its padding spaces and zero bytes before.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import overload

_PADDING = " \t\n\v\f\r\0"
_SIZE = 20  # bytes of a SHA-1


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


def kept_small(listed: Sequence[str]) -> Sequence[str]:
    """The same identifiers in 20 bytes each instead of a hundred; as they are where they are no SHA-1s."""
    digests = bytearray()
    for one in listed:
        digest = _read(one)
        if digest is None:
            return listed
        digests += digest
    return IdentifierList(bytes(digests))


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
        of = {_key(one): number for number, listed in enumerate(lists) for one in listed}
        keys = sorted(of)
        self._keys = b"".join(keys)
        self._of = array("l", (of[key] for key in keys))
        self.count = len(keys)

    def take(self, identifier: str) -> int | None:
        """It has come: the number of its list; None where it is in none of them, or came before."""
        place = self._place(identifier)
        number = self._of[place] if place is not None else -1
        if place is None or number < 0:
            return None
        self._of[place] = -1
        self.count -= 1
        return number

    def __contains__(self, identifier: str) -> bool:
        place = self._place(identifier)
        return place is not None and self._of[place] >= 0

    def _place(self, identifier: str) -> int | None:
        key = _key(identifier)
        place = bisect_left(range(len(self._of)), key, key=self._key_at)
        return place if place < len(self._of) and self._key_at(place) == key else None

    def _key_at(self, place: int) -> bytes:
        return self._keys[place * _SIZE : (place + 1) * _SIZE]


def _key(identifier: str) -> bytes:
    return _read(identifier) or _sha1(identifier)
