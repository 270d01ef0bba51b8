"""Forwards to and from Orthanc's DICOMweb plugin against bare multipart loops: ratios, CPU, peak memory."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.orthanc import OrthancServer
from tests.support.studies import ct_study, small_study, write_large_instance

CONNECTIONS = 8
SIZES = {"525 kB": (ct_study, 24, 100), "1.4 kB": (small_study, 30, 100)}
WAYS = {"to": "Orthanc → DICOMweb (STOW-RS)", "from": "DICOMweb (WADO-RS) → Orthanc"}
GOAL = 0.8


def contend(name: str, way: str, source: OrthancServer, destination: OrthancServer) -> dict[str, float]:
    """One run of one contender into an empty destination; seconds, CPU seconds, peak memory in MB."""
    destination.wipe()
    program = [sys.executable, "-m", "tests.bench.dicomweb_contender", name, way]
    ended = subprocess.run(
        [*program, source.url, destination.url, str(CONNECTIONS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if ended.returncode:
        raise SystemExit(f"{name} failed: {ended.stdout} {ended.stderr}")
    if destination.count() != source.count():
        raise SystemExit(f"{name}: {destination.count()} of {source.count()} images arrived")
    return json.loads(ended.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", action="append", choices=["1.10", "1.12"])
    parser.add_argument("--size", action="append", choices=list(SIZES))
    parser.add_argument("--way", action="append", choices=list(WAYS))
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the usual amount of images")
    options = parser.parse_args()
    for version in options.version or ["1.10", "1.12"]:
        for size in options.size or list(SIZES):
            _case(version, size, options.way or list(WAYS), options.rounds, options.scale)
    _memory(options.version[0] if options.version else "1.12")


def _case(version: str, size: str, ways: list[str], rounds: int, scale: float) -> None:
    make, studies, per_study = SIZES[size]
    with (
        # A minute after a study came, an Orthanc writes its metadata together: not while it is measured.
        OrthancServer(version, dicomweb=True, count_received=False, config={"StableAge": 86400}) as source,
        OrthancServer(version, dicomweb=True, count_received=False) as destination,
    ):
        for n in range(studies):
            source.upload(make(int(per_study * scale) or 1, patient_id=f"B{n}", accession=f"B{n}", seed=n))
        total = source.count()
        for way in ways:
            contenders = ["bare", "series" if way == "from" else "together", "ferry"]
            results: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
            contend("bare", way, source, destination)  # the first would pay for the servers' fresh memory
            for _round in range(rounds):
                for name in contenders:  # in turn, so that a drift of the machine meets all alike
                    results[name].append(contend(name, way, source, destination))
            print(f"\n{WAYS[way]}, Orthanc {version}, {total} images of {size}, medians of {rounds} rounds")
            for name in contenders:
                _tell(name, results, total)


def _tell(name: str, results: dict[str, list[dict[str, float]]], total: int) -> None:
    seconds = statistics.median(r["seconds"] for r in results[name])
    ratio = statistics.median(b["seconds"] / r["seconds"] for b, r in zip(results["bare"], results[name], strict=True))
    cpu = statistics.median(r["cpu"] for r in results[name])
    peak = max(r["peak_mb"] for r in results[name])
    loop = statistics.median(b["loop"] / r["seconds"] for b, r in zip(results["bare"], results[name], strict=True))
    goal = f" (goal {GOAL:.2f}; {loop:.2f} of a loop that knows what there is)" if name == "ferry" else ""
    print(
        f"  {name:9} {total / seconds:7.0f} images/s   {ratio:5.2f} of bare   CPU {cpu:5.1f} s   peak {peak:4.0f} MB"
        f"{goal}",
        flush=True,
    )


def _memory(version: str) -> None:
    """One image of 600 MB in both directions; the program's own memory at its start is some 60 MB of it."""
    with (
        OrthancServer(version, dicomweb=True, count_received=False) as source,
        OrthancServer(version, dicomweb=True, count_received=False) as destination,
        tempfile.TemporaryDirectory() as folder,
    ):
        source.upload([write_large_instance(Path(folder) / "large.dcm", 600_000_000).path])
        for way in WAYS:
            found = contend("ferry", way, source, destination)
            print(f"{WAYS[way]}, one image of 600 MB: {found['seconds']:.1f} s, peak {found['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
