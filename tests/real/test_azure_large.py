"""Large images to an Azure DICOM service and back: they stream, and memory stays flat."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.azure_nodes import azure_fields
from tests.support.azure_service import AzureService
from tests.support.ferry import Ferry
from tests.support.studies import write_large_instance

MEGABYTE = 1_000_000
PEAK = 200 * MEGABYTE
_MEASURED = (
    "import resource, subprocess, sys\n"
    "status = subprocess.call(sys.argv[2:])\n"
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
    "open(sys.argv[1], 'w').write(str(peak))\n"
    "sys.exit(status)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
@pytest.mark.parametrize(
    "size", [250 * MEGABYTE, pytest.param(2_100 * MEGABYTE, marks=pytest.mark.soak)], ids=["250 MB", "2.1 GB"]
)
def test_a_large_image_streams_both_ways(tmp_path: Path, size: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    large = write_large_instance(tmp_path / "in" / "large.dcm", size)
    ferry = Ferry(tmp_path / "ferry")
    with AzureService(tmp_path / "azure") as service:
        ferry.env["DICOM_FERRY_SECRET_CLOUD_CLIENT_SECRET"] = service.secret
        options = [t for n, v in azure_fields(service).items() for t in (f"--{n.replace('_', '-')}", str(v))]
        ferry.run("node", "add", "azure", "Cloud", *options).expect(0)
        for name, folder in (("In", "in"), ("Out", "out")):
            ferry.run("node", "add", "folder", name, "--path", tmp_path / folder).expect(0)
        for source, destination in (("In", "Cloud"), ("Cloud", "Out")):
            told = tmp_path / f"peak-{source}"
            measured = (sys.executable, "-c", _MEASURED, str(told))
            way = ("--source", source, "--destination", destination, "--json")
            run = ferry.start("run", "forward", *way, wrapper=measured)
            assert run.result(280).expect(0).finished["verified"] == 1
            assert int(told.read_text()) < PEAK, f"{int(told.read_text()) / MEGABYTE:.0f} MB from {source}"
            print(f"{source}: {int(told.read_text()) / MEGABYTE:.0f} MB")
        assert service.held() == {large.sop_uid}
    ferry.close()
    back = next((tmp_path / "out").rglob("*.dcm"))
    assert back.stat().st_size == large.path.stat().st_size
    with back.open("rb") as one, large.path.open("rb") as other:
        one.seek(128)  # the service empties the preamble
        other.seek(128)
        while (piece := one.read(1 << 20)) and piece == other.read(1 << 20):
            pass
        assert not piece
