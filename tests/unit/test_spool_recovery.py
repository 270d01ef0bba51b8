"""A spool after a power cut that has also cost it its catalogue: a file that breaks off is never taken for an image."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom.uid as uids
import pytest

from core.spool.incoming import parse_meta
from core.spool.record import Kept
from core.spool.spool import CATALOGUE, Spool
from core.spool.whole import is_whole
from tests.support.studies import make_study

SYNTAXES = [
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.JPEGBaseline8Bit,
    uids.RLELossless,
]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_breaks_off_is_told_from_what_is_whole(syntax: str) -> None:
    [image] = make_study(instances=1, transfer_syntax=syntax)
    start = parse_meta(image).length
    assert is_whole(io.BytesIO(image), start, len(image), syntax)
    # Within the head, in the pixels, and just before the end.
    for missing in (1, 2, 7, len(image) // 3, len(image) - start - 21):
        cut = image[:-missing]
        assert not is_whole(io.BytesIO(cut), start, len(cut), syntax), missing


def put(spool: Spool, image: bytes) -> Kept:
    with spool.receive_file() as incoming:
        incoming.write(memoryview(image))
        return spool.keep(incoming).kept


def test_a_file_that_breaks_off_goes_aside_and_its_image_is_taken_in_again(tmp_path: Path) -> None:
    first, second = make_study(instances=2, size_bytes=4000)
    spool = Spool.open(tmp_path)
    assert put(spool, first) is Kept.STORED
    assert put(spool, second) is Kept.STORED
    token, shelf = spool._token, next((tmp_path / "files").iterdir())
    spool.close()
    # As a power cut leaves it: the mark of the process, a name whose content is not all there, a broken catalogue.
    (tmp_path / "incoming" / f"{token}.lock").touch()
    torn = shelf / "1.dcm"
    torn.write_bytes(torn.read_bytes()[:-500])
    (tmp_path / CATALOGUE).write_bytes(b"no database")
    again = Spool.open(tmp_path)
    try:
        assert again.catalogue.totals()[1] == 1
        assert len(list((tmp_path / "aside").iterdir())) == 1
        assert put(again, second) is Kept.STORED
        assert put(again, first) is Kept.DUPLICATE
    finally:
        again.close()
