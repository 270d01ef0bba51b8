"""C-STORE to Orthanc: `dcmsend`, pynetdicom, a bare loop, ours, and whole jobs of the program, side by side in one run.

Ratios, CPU and memory. The jobs take inventory, write their ledger, ask what is there already, send, and end when each
image is verified, from a folder and from another Orthanc. The slow ones send fewer images, since they take some 45 ms
for each whatever its size; what counts is the rate.
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

IMAGES = 2400


@dataclass(frozen=True)
class Result:
    rate: float
    cpu: float
    peak_mb: float
    images: int


def dcmsend(server: OrthancServer, folder: Path | str, images: int) -> Result:
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
    # Its largest size would be that of this process, of which it was a copy at first.
    return Result(images / seconds, used.ru_utime + used.ru_stime, 0.0, images)


def in_process(name: str, associations: int) -> Callable[[OrthancServer, Path | str, int], Result]:
    """A contender of `tests.bench.dimse_contender`."""

    def send(server: OrthancServer, origin: Path | str, images: int) -> Result:
        command = [sys.executable, "-m", "tests.bench.dimse_contender"]
        command += [name, str(server.dicom_port), server.aet, str(origin), str(associations)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{name} failed: {ended.stdout} {ended.stderr}")
        found = json.loads(ended.stdout.strip().splitlines()[-1])
        return Result(images / found["seconds"], found["cpu"], found["peak_mb"], images)

    return send


@dataclass(frozen=True)
class Contender:
    """One way of sending.

    Attributes
    ----------
    share : float
        The part of the images that it sends.
    goal : float
        How many times as fast as `BASE` it must be; 0 for a comparison.
    relay : bool
        Takes them from another Orthanc, not from a folder.
    """

    send: Callable[[OrthancServer, Path | str, int], Result]
    share: float = 1.0
    goal: float = 0.0
    relay: bool = False


CONTENDERS = {
    "dcmsend": Contender(dcmsend, 0.05),
    "pynetdicom": Contender(in_process("pynetdicom", 1), 0.025),
    "bare loop": Contender(in_process("bare", 1)),
    "ours, 1 association": Contender(in_process("ours", 1), goal=20.0),
    "ours, 4 associations": Contender(in_process("ours", 4)),
    "job, 1 association": Contender(in_process("ferry", 1), goal=15.0),
    "job from Orthanc": Contender(in_process("ferry", 1), relay=True),
}
BASE = "dcmsend"
_WARM = "ours, 4 associations"


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
    with (
        OrthancServer(version, count_received=False, config={"DicomAlwaysAllowFind": True}) as server,
        OrthancServer(version, count_received=False) as source,
    ):
        for share in {CONTENDERS[name].share for name in names if CONTENDERS[name].relay}:
            source.upload(sorted(folders[share][0].rglob("*.dcm")))
        CONTENDERS[_WARM].send(server, *folders[max(folders)])  # the first would pay for the server's fresh memory
        for _round in range(rounds):
            for name in names:  # in turn, so that a drift of the machine meets all alike
                server.wipe()
                contender = CONTENDERS[name]
                folder, count = folders[contender.share]
                results[name].append(contender.send(server, source.url if contender.relay else folder, count))
                if server.count() != count:
                    raise SystemExit(f"{name}: {server.count()} of {count} images arrived")
    print(f"\nC-STORE of 525 kB images to Orthanc {version}, medians of {rounds} rounds")
    for name in names:
        _say(name, results[name], results.get(BASE, []))


def _say(name: str, found: list[Result], base: list[Result]) -> None:
    ratio = ""
    if base and name != BASE:
        ratios = [one.rate / other.rate for one, other in zip(found, base, strict=True)]
        ratio = f"{statistics.median(ratios):5.1f} x {BASE} ({min(ratios):.1f} to {max(ratios):.1f})"
        goal = CONTENDERS[name].goal
        ratio += f", goal {goal:.0f} x" if goal else ""
    rate = statistics.median(one.rate for one in found)
    cpu = statistics.median(one.cpu / one.images * 1000 for one in found)
    peak = max(one.peak_mb for one in found)
    memory = f"peak {peak:4.0f} MB" if peak else " " * 12
    print(f"  {name:22}{rate:6.0f} images/s  CPU {cpu:5.2f} s per 1000  {memory}  {ratio}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
