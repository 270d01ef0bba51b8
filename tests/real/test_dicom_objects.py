"""Objects of many kinds and encodings by two ways and back to a folder: what comes out is stated for each.

By DIMSE to an Orthanc, and from there by C-GET; and through this computer's own store.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import uid as uids
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset

from core.wire.dimse.file_meta import split_head
from tests.support.orthanc import OrthancServer
from tests.support.running_app import RunningApp
from tests.support.servers import free_port

PADDING = 0xFFFCFFFC  # Data Set Trailing Padding: no content


class Comes(StrEnum):
    """What comes out behind an Orthanc. Through this computer, each file comes out byte for byte."""

    SAME = "the data set byte for byte, in its own encoding"
    REWRITTEN = "its own encoding with all values; lengths of sequences, groups and paddings are written anew"


SAME, REWRITTEN = Comes

OBJECTS = {
    "CT_small.dcm": REWRITTEN,  # with padding behind it
    "MR_small_bigendian.dcm": SAME,
    "JPEG2000.dcm": REWRITTEN,
    "JPEG-lossy.dcm": REWRITTEN,
    "GDCMJ2K_TextGBR.dcm": SAME,
    "SC_rgb_rle_2frame.dcm": SAME,  # multi-frame
    "SC_rgb_small_odd.dcm": SAME,
    "SC_ybr_full_422_uncompressed.dcm": SAME,
    "image_dfl.dcm": REWRITTEN,  # deflated, to an odd length
    "liver_1frame.dcm": REWRITTEN,  # a segmentation
    "rtdose.dcm": SAME,
    "rtplan.dcm": SAME,  # without VRs
    "reportsi.dcm": REWRITTEN,  # a structured report with sequences of defined length
    "test-SR.dcm": SAME,
    "waveform_ecg.dcm": REWRITTEN,
    "examples_palette.dcm": REWRITTEN,
    "examples_overlay.dcm": SAME,
    "pdf": SAME,
    "private": SAME,
    "enhanced": SAME,
}


def built(name: str) -> bytes:
    """What does not come with pydicom: an encapsulated PDF, a private SOP class, an enhanced multi-frame MR."""
    dataset = Dataset()
    dataset.SOPClassUID = {
        "pdf": uids.EncapsulatedPDFStorage,
        "private": "1.2.826.0.1.3680043.9.9999.1",
        "enhanced": uids.EnhancedMRImageStorage,
    }[name]
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = (uids.generate_uid() for _ in "iss")
    dataset.PatientID, dataset.PatientName, dataset.Modality = "OBJECTS", "Object^Of many kinds", "OT"
    dataset.StudyDate, dataset.AccessionNumber, dataset.SeriesNumber = "20260105", "A1", 1
    if name == "pdf":
        dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
        dataset.EncapsulatedDocument = b"%PDF-1.4\n" + bytes(range(256)) * 40 + b"\0"
    if name == "private":
        block = dataset.private_block(0x0099, "FERRY TEST", create=True)
        block.add_new(0x01, "OB", bytes(range(256)))
        block.add_new(0x02, "LO", "kept as it is")
    if name == "enhanced":
        dataset.Rows = dataset.Columns = 16
        dataset.NumberOfFrames, dataset.SamplesPerPixel = 4, 1
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = bytes(range(256)) * 8
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    file = BytesIO()
    pydicom.dcmwrite(file, pydicom.FileDataset(file, dataset, file_meta=meta), enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("objects")
    found = {}
    for name in OBJECTS:
        content = Path(str(get_testdata_file(name, download=False))).read_bytes() if "." in name else built(name)
        found[name] = folder / name
        found[name].write_bytes(content)
    return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    app = RunningApp(tmp_path / "home")
    yield app
    app.close()


def read(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them are not quite valid
        dataset = pydicom.dcmread(BytesIO(content))
        dataset.walk(lambda _dataset, _element: None)
    return dataset


def data_set(content: bytes) -> bytes:
    return bytes(memoryview(split_head(content).data_set))  # type: ignore[arg-type]


def what_came(before: bytes, after: bytes) -> Comes | str:
    if data_set(before) == data_set(after):
        return SAME
    old, new = read(before), read(after)
    values = [{e.tag: e.value for e in one if e.tag.element and e.tag != PADDING} for one in (old, new)]
    if values[0] != values[1]:
        return f"other values: {[tag for tag in values[0] if values[0][tag] != values[1].get(tag)]}"
    assert old.file_meta.TransferSyntaxUID == new.file_meta.TransferSyntaxUID
    return REWRITTEN


def files_in(folder: Path) -> dict[str, bytes]:
    contents = [path.read_bytes() for path in folder.rglob("*.dcm")]
    return {read(content).SOPInstanceUID: content for content in contents}


def carry(running: RunningApp, source: str, destination: str, count: int) -> None:
    job = running.run("forward", [source], [destination], path="relay", max_attempts=1)
    assert (job.counts.verified, job.counts.total) == (count, count), [
        r.failure for r in running.rows(job.id) if r.failure
    ]
    assert not job.problem


@pytest.fixture(params=["1.10", "1.12"])
def server(request: pytest.FixtureRequest) -> Iterator[OrthancServer]:
    config = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "UnknownSopClassAccepted": True}
    with OrthancServer(request.param, count_received=False, config=config) as started:
        yield started


def test_to_an_orthanc_by_c_store_and_from_there_by_c_get(
    running: RunningApp, server: OrthancServer, objects: dict[str, Path], tmp_path: Path
) -> None:
    name = server.version
    running.folder(f"objects {name}", next(iter(objects.values())).parent)
    running.folder(f"out {name}", tmp_path / "out")
    fields = {"host": "127.0.0.1", "port": server.dicom_port, "aet": server.aet, "retrieve": "c-get"}
    running.app.nodes.add("dicom", f"pacs {name}", fields, {})  # type: ignore[arg-type]
    carry(running, f"objects {name}", f"pacs {name}", len(OBJECTS))
    carry(running, f"pacs {name}", f"out {name}", len(OBJECTS))
    found = files_in(tmp_path / "out")
    came = {}
    for kind, path in objects.items():
        before = path.read_bytes()
        came[kind] = what_came(before, found[read(before).SOPInstanceUID])
    assert came == OBJECTS


def test_through_this_computer_everything_stays_as_it_is(
    running: RunningApp, objects: dict[str, Path], tmp_path: Path
) -> None:
    running.folder("objects", next(iter(objects.values())).parent)
    running.folder("out", tmp_path / "out")
    running.app.nodes.add("this-computer", "here", {"port": free_port(), "reserve": 0.1}, {})
    carry(running, "objects", "here", len(OBJECTS))
    carry(running, "here", "out", len(OBJECTS))
    assert sorted(files_in(tmp_path / "out").values()) == sorted(path.read_bytes() for path in objects.values())
