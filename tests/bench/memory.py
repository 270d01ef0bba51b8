"""Peak memory of a clone: 1,000, 10,000 and 50,000 small images in one series, and one image of 600 MB."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.bench.clone import contend
from tests.support.orthanc import OrthancServer
from tests.support.studies import small_study, write_large_instance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="1.12", choices=["1.10", "1.12"])
    parser.add_argument("--many", type=int, default=50_000)
    options = parser.parse_args()
    print(f"\nPeak memory of the program, Orthanc {options.version}")
    with (
        OrthancServer(options.version, count_received=False) as source,
        OrthancServer(options.version, count_received=False) as destination,
    ):
        for count in (1_000, 10_000, options.many):
            source.wipe()
            source.upload(small_study(count).plan.encoded())
            found = contend("ferry", source, destination)
            print(
                f"  {count:6} images of 1.4 kB   {found['peak_mb']:4.0f} MB   {count / found['seconds']:5.0f} images/s"
            )
        source.wipe()
        with tempfile.TemporaryDirectory() as folder:
            large = write_large_instance(Path(folder) / "large.dcm", 600_000_000)
            source.upload([large.path])
        found = contend("ferry", source, destination)
        print(f"  one image of 600 MB      {found['peak_mb']:4.0f} MB")


if __name__ == "__main__":
    main()
