"""Large images to an Azure DICOM service and back: they stream, and memory stays flat."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from core.wire.dimse.file_meta import split_head
from core.wire.dimse.part10 import file_head
from core.wire.dimse.transcode import EXPLICIT, IMPLICIT, transcoded
from tests.support.azure_nodes import azure_fields
from tests.support.azure_service import AzureService
from tests.support.ferry import Ferry
from tests.support.studies import LargeInstance, write_large_instance

MEGABYTE = 1_000_000
_HEAD = 4096  # bytes in which the pixels of a test's image begin
_PIXELS = b"\xe0\x7f\x10\x00OW\0\0"
PEAK = 200 * MEGABYTE
_MEASURED = (
    "import resource, subprocess, sys\n"
    "status = subprocess.call(sys.argv[2:])\n"
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
    "open(sys.argv[1], 'w').write(str(peak))\n"
    "sys.exit(status)\n"
)


def register(ferry: Ferry, service: AzureService, **folders: Path) -> None:
    ferry.env["DICOM_FERRY_SECRET_CLOUD_CLIENT_SECRET"] = service.secret
    options = [t for n, v in azure_fields(service).items() for t in (f"--{n.replace('_', '-')}", str(v))]
    ferry.run("node", "add", "azure", "Cloud", *options).expect(0)
    for name, folder in folders.items():
        ferry.run("node", "add", "folder", name, "--path", folder).expect(0)


def peak_of(ferry: Ferry, source: str, destination: str, folder: Path) -> int:
    """Bytes of memory that the program had at most while it carried the one image."""
    told = folder / f"peak-{source}"
    measured = (sys.executable, "-c", _MEASURED, str(told))
    way = ("--source", source, "--destination", destination, "--json")
    run = ferry.start("run", "forward", *way, wrapper=measured)
    assert run.result(280).expect(0).finished["verified"] == 1
    print(f"{source} → {destination}: {int(told.read_text()) / MEGABYTE:.0f} MB")
    return int(told.read_text())


def same(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether both go on with the same bytes to their ends."""
    while (piece := one.read(1 << 20)) == other.read(1 << 20):
        if not piece:
            return True
    return False


def as_implicit(path: Path, large: LargeInstance) -> None:
    """Write it again with its data set in implicit VR."""
    with large.path.open("rb") as file, path.open("wb") as out:
        head = split_head(file.read(_HEAD))
        assert isinstance(head.data_set, memoryview)
        before, _, _ = bytes(head.data_set).partition(_PIXELS)
        out.write(file_head(head.sop_class, head.sop_uid, IMPLICIT))
        for piece in transcoded(before, source=EXPLICIT, target=IMPLICIT):
            out.write(piece)
        file.seek(_HEAD - len(head.data_set) + len(before) + len(_PIXELS))
        out.write(b"\xe0\x7f\x10\x00")
        shutil.copyfileobj(file, out)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
@pytest.mark.parametrize(
    "size", [150 * MEGABYTE, pytest.param(2_100 * MEGABYTE, marks=pytest.mark.soak)], ids=["150 MB", "2.1 GB"]
)
def test_a_large_image_of_implicit_vr_is_not_held_either(tmp_path: Path, size: int) -> None:
    large = write_large_instance(tmp_path / "explicit.dcm", size)
    (tmp_path / "in").mkdir()
    as_implicit(tmp_path / "in" / "implicit.dcm", large)
    ferry = Ferry(tmp_path / "ferry")
    with AzureService(tmp_path / "azure") as service:
        register(ferry, service, In=tmp_path / "in")
        assert peak_of(ferry, "In", "Cloud", tmp_path) < PEAK
        stored = next(iter(service.shelf.files()))
        with stored.open("rb") as one, large.path.open("rb") as other:
            one.seek(_HEAD - large.size, 2)  # all that comes behind what says how it is encoded
            other.seek(_HEAD - large.size, 2)
            assert same(one, other)
    ferry.close()


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
@pytest.mark.parametrize(
    "size", [150 * MEGABYTE, pytest.param(2_100 * MEGABYTE, marks=pytest.mark.soak)], ids=["150 MB", "2.1 GB"]
)
def test_a_large_image_streams_both_ways(tmp_path: Path, size: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    large = write_large_instance(tmp_path / "in" / "large.dcm", size)
    ferry = Ferry(tmp_path / "ferry")
    with AzureService(tmp_path / "azure") as service:
        register(ferry, service, In=tmp_path / "in", Out=tmp_path / "out")
        for source, destination in (("In", "Cloud"), ("Cloud", "Out")):
            assert peak_of(ferry, source, destination, tmp_path) < PEAK
        assert service.held() == {large.sop_uid}
    ferry.close()
    back = next((tmp_path / "out").rglob("*.dcm"))
    assert back.stat().st_size == large.path.stat().st_size
    with back.open("rb") as one, large.path.open("rb") as other:
        one.seek(128)  # the service empties the preamble
        other.seek(128)
        assert same(one, other)
