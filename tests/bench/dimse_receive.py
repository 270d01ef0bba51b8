"""Receiving by C-STORE against a bare in-memory receiver of pynetdicom's; peak memory with very large images."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers import free_port, required_program
from tests.support.studies import ct_study, small_study, write_large_instance

RECEIVERS = ("bare", "ferry")
SIZES = {"525 kB": ct_study, "1.4 kB": small_study}


def receive(name: str, folders: Sequence[Path]) -> dict[str, float]:
    """One run: a sender (dcmsend) for each folder, all at once. Images, seconds, CPU seconds, peak memory in MB."""
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        receiver = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.receiver", name, str(port), home],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        assert receiver.stdout.readline().strip() == "ready"
        began = time.perf_counter()
        command = [required_program("dcmsend"), "-aec", "DICOMFERRY", "+sd", "127.0.0.1", str(port)]
        senders = [subprocess.Popen([*command, str(folder)]) for folder in folders]
        failed = [sender.wait() for sender in senders]
        seconds = time.perf_counter() - began
        said, _ = receiver.communicate()
    if any(failed):
        raise SystemExit(f"{name}: a sender failed")
    return {"seconds": seconds, **json.loads(said.strip().splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", action="append", choices=list(SIZES))
    parser.add_argument("--images", type=int, default=300, help="of each sender")
    parser.add_argument("--large", type=int, default=600, help="MB of each very large image")
    options = parser.parse_args()
    for size in options.size or list(SIZES):
        for senders in (1, 4):
            _case(size, senders, options.images if size == "525 kB" else 3 * options.images, options.rounds)
    _large(options.large)


def _case(size: str, senders: int, images: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as where:
        folders = [Path(where) / str(number) for number in range(senders)]
        for number, folder in enumerate(folders):
            SIZES[size](images, patient_id=f"R{number}", accession=f"R{number}").write(folder)
        results: dict[str, list[dict[str, float]]] = {name: [] for name in RECEIVERS}
        for _round in range(rounds):
            for name in RECEIVERS:  # in turn, so that a drift of the machine meets all alike
                found = receive(name, folders)
                if found["images"] != images * senders:
                    raise SystemExit(f"{name}: {found['images']:.0f} of {images * senders} images arrived")
                results[name].append(found)
    print(f"\nReceiving from {senders} sender(s), {images * senders} images of {size}, medians of {rounds} rounds")
    for name in RECEIVERS:
        seconds = statistics.median(r["seconds"] for r in results[name])
        ratio = statistics.median(
            b["seconds"] / r["seconds"] for b, r in zip(results["bare"], results[name], strict=True)
        )
        cpu = statistics.median(r["cpu"] for r in results[name])
        peak = max(r["peak_mb"] for r in results[name])
        print(
            f"  {name:6} {images * senders / seconds:7.0f} images/s   {ratio:5.2f} of bare   "
            f"CPU {cpu:5.1f} s   peak {peak:4.0f} MB"
        )


def _large(megabytes: int) -> None:
    senders = 3
    with tempfile.TemporaryDirectory() as where:
        folders = []
        for number in range(senders):
            folder = Path(where) / str(number)
            folder.mkdir()
            write_large_instance(folder / "large.dcm", megabytes * 1_000_000, seed=number + 1)
            folders.append(folder)
        needed = senders * megabytes * 1_000_000
        if shutil.disk_usage(where).free < 2 * needed:
            raise SystemExit("There is not enough room on the disk for the very large images.")
        found = receive("ferry", folders)
    print(f"\nReceiving {senders} images of {megabytes} MB at once")
    print(f"  ferry  peak {found['peak_mb']:4.0f} MB   {needed / 1e6 / found['seconds']:5.0f} MB/s")


if __name__ == "__main__":
    main()
