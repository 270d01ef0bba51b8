"""C-STORE to Orthanc: `dcmsend`, pynetdicom as it comes, and ours, side by side in one run: ratios, CPU, memory.

The slow ones send fewer images, since they take some 45 ms for each whatever its size; what counts is the rate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.orthanc import OrthancServer
from tests.support.servers import required_program
from tests.support.studies import ct_study

IMAGES = 1200
GOAL = 20.0


@dataclass(frozen=True)
class Result:
    rate: float
    cpu: float
    peak_mb: float
    images: int


def dcmsend(server: OrthancServer, folder: Path, images: int) -> Result:
    """DCMTK's sender, on its one association."""
    command = [
        required_program("dcmsend"), "--no-uid-checks", "--call", server.aet, "127.0.0.1", str(server.dicom_port),
        "--scan-directories", str(folder),
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stderr is not None:
        process.stderr.close()
    if process.returncode:
        raise SystemExit(f"dcmsend ended with {process.returncode}")
    return Result(images / seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, images)


def in_process(name: str, associations: int) -> Callable[[OrthancServer, Path, int], Result]:
    """A contender of `tests.bench.dimse_contender`."""

    def send(server: OrthancServer, folder: Path, images: int) -> Result:
        command = [sys.executable, "-m", "tests.bench.dimse_contender"]
        command += [name, str(server.dicom_port), server.aet, str(folder), str(associations)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{name} failed: {ended.stdout} {ended.stderr}")
        found = json.loads(ended.stdout.strip().splitlines()[-1])
        return Result(images / found["seconds"], found["cpu"], found["peak_mb"], images)

    return send


@dataclass(frozen=True)
class Contender:
    """`share`: the part of the images that it sends."""

    send: Callable[[OrthancServer, Path, int], Result]
    share: float = 1.0


CONTENDERS = {
    "dcmsend": Contender(dcmsend, 0.1),
    "pynetdicom": Contender(in_process("pynetdicom", 1), 0.1),
    "ours, 1 association": Contender(in_process("ours", 1)),
    "ours, 4 associations": Contender(in_process("ours", 4)),
}
BASE, MUST = "dcmsend", "ours, 1 association"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", action="append", choices=["1.10", "1.12"])
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS))
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the usual amount of images")
    options = parser.parse_args()
    names = options.contender or list(CONTENDERS)
    with tempfile.TemporaryDirectory(prefix="dicom-ferry-bench-") as folder:
        folders = {}
        for share in sorted({CONTENDERS[name].share for name in names}):
            count = max(1, int(IMAGES * options.scale * share))
            folders[share] = (Path(folder) / f"{share}", count)
            ct_study(count, seed=7).write(folders[share][0])
        for version in options.version or ["1.10", "1.12"]:
            _case(version, names, options.rounds, folders)


def _case(version: str, names: list[str], rounds: int, folders: dict[float, tuple[Path, int]]) -> None:
    results: dict[str, list[Result]] = {name: [] for name in names}
    with OrthancServer(version, count_received=False) as server:
        for _round in range(rounds):
            for name in names:  # in turn, so that a drift of the machine meets all alike
                server.wipe()
                folder, count = folders[CONTENDERS[name].share]
                results[name].append(CONTENDERS[name].send(server, folder, count))
                if server.count() != count:
                    raise SystemExit(f"{name}: {server.count()} of {count} images arrived")
    print(f"\nC-STORE of 525 kB images to Orthanc {version}, medians of {rounds} rounds")
    for name in names:
        found = results[name]
        ratio = ""
        if BASE in results and name != BASE:
            ratios = [one.rate / base.rate for one, base in zip(found, results[BASE], strict=True)]
            ratio = f"{statistics.median(ratios):5.1f} x {BASE} ({min(ratios):.1f} to {max(ratios):.1f})"
            ratio += f", goal {GOAL:.0f} x" if name == MUST else ""
        rate = statistics.median(one.rate for one in found)
        cpu = statistics.median(one.cpu / one.images * 1000 for one in found)
        peak = max(one.peak_mb for one in found)
        print(f"  {name:22}{rate:6.0f} images/s  CPU {cpu:5.2f} s per 1000  peak {peak:4.0f} MB  {ratio}")


if __name__ == "__main__":
    main()
