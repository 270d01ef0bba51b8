"""Receiving by C-STORE against a bare in-memory receiver of pynetdicom's; peak memory with very large images."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers import free_port, required_program
from tests.support.studies import ct_study, small_study, write_large_instance

RECEIVERS = ("bare", "ferry")
SIZES = {"525 kB": ct_study, "1.4 kB": small_study}


def receive(name: str, folders: Sequence[Path], where: Path) -> dict[str, float]:
    """One run: a sender (dcmsend) for each folder, all at once. Images, seconds, CPU seconds, peak memory in MB."""
    port = free_port()
    home = tempfile.mkdtemp(dir=where)
    _write_back()
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
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; by default the one for such files")
    options = parser.parse_args()
    # Nothing is deleted before the end: where much was deleted just now, ext4 makes new files thirty times slower.
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="receive-") as name:
        where = Path(name)
        _disk(where)
        for size in options.size or list(SIZES):
            for senders in (1, 4):
                # The bare receiver takes 45 ms for each small one, as the second half of its answers waits for an ACK.
                images = options.images if size == "525 kB" else options.images // 2
                _case(size, senders, images, options.rounds, where)
        if options.large:
            _large(options.large, where)


def _disk(where: Path) -> None:
    """What the disk itself gives: the same files written and synced by four threads, nothing else."""
    folder = where / "disk"
    folder.mkdir()
    content = os.urandom(525_000)

    def write(thread: int) -> None:
        for number in range(100):
            with (folder / f"{thread}-{number}").open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    began = time.perf_counter()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"\nThe disk alone: {400 / (time.perf_counter() - began):.0f} files of 525 kB written and synced a second")


def _write_back() -> None:
    """What earlier runs wrote must not be written to the disk during the next one."""
    if hasattr(os, "sync"):
        os.sync()


def _case(size: str, senders: int, images: int, rounds: int, where: Path) -> None:
    folders = [where / f"{size} {senders} {number}" for number in range(senders)]
    for number, folder in enumerate(folders):
        SIZES[size](images, patient_id=f"R{number}", accession=f"R{number}").write(folder)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in RECEIVERS}
    for _round in range(rounds):
        for name in RECEIVERS:  # in turn, so that a drift of the machine meets all alike
            found = receive(name, folders, where)
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
        goal = ", goal 0.7" if name == "ferry" and senders > 1 else ""
        print(
            f"  {name:6} {images * senders / seconds:7.0f} images/s   CPU {cpu:5.1f} s   peak {peak:4.0f} MB   "
            f"{ratio:5.2f} of bare{goal}",
            flush=True,
        )


def _large(megabytes: int, where: Path) -> None:
    senders = 3
    needed = senders * megabytes * 1_000_000
    if shutil.disk_usage(where).free < 2 * needed:
        raise SystemExit("There is not enough room on the disk for the very large images.")
    folders = []
    for number in range(senders):
        folder = where / f"large {number}"
        folder.mkdir()
        write_large_instance(folder / "large.dcm", megabytes * 1_000_000, seed=number + 1)
        folders.append(folder)
    found = receive("ferry", folders, where)
    print(f"\nReceiving {senders} images of {megabytes} MB at once")
    print(f"  ferry  peak {found['peak_mb']:4.0f} MB, goal below 200 MB   {needed / 1e6 / found['seconds']:5.0f} MB/s")


if __name__ == "__main__":
    main()
