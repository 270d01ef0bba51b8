"""Clone against a bare relay and against `orthanc-tools`, side by side in one run: ratios, CPU, peak memory."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from tests.support.orthanc import OrthancServer
from tests.support.studies import ct_study, small_study

CONTENDERS = ("bare", "ferry", "orthanc-tools")
CONNECTIONS = 6  # of ours and of the bare loop: the two servers share two processors with them
TOOLS_CONNECTIONS = 12  # of orthanc-tools, which is slower with fewer
SIZES = {"525 kB": (ct_study, 300), "1.4 kB": (small_study, 200)}


def contend(
    name: str, source: OrthancServer, destination: OrthancServer, connections: int = CONNECTIONS
) -> dict[str, float]:
    """One run of one contender into an empty destination; seconds, CPU seconds, peak memory in MB."""
    destination.wipe()
    at_once = str(TOOLS_CONNECTIONS if name == "orthanc-tools" else connections)
    command = [sys.executable, "-m", "tests.bench.contender", name, source.url, destination.url, at_once]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{name} failed: {ended.stdout} {ended.stderr}")
    if destination.count() != source.count():
        raise SystemExit(f"{name}: {destination.count()} of {source.count()} instances arrived")
    return json.loads(ended.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", action="append", choices=["1.10", "1.12"])
    parser.add_argument("--size", action="append", choices=list(SIZES))
    parser.add_argument("--contender", action="append", choices=CONTENDERS)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of ours and of the bare loop")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the usual amount of images")
    options = parser.parse_args()
    contenders = options.contender or list(CONTENDERS)
    for version in options.version or ["1.10", "1.12"]:
        for size in options.size or list(SIZES):
            _case(version, size, contenders, options.connections, options.rounds, options.scale)


def _case(version: str, size: str, contenders: list[str], connections: int, rounds: int, scale: float) -> None:
    make, per_study = SIZES[size]
    studies = 10 if size == "525 kB" else 40
    with (
        OrthancServer(version, count_received=False, config={"MaximumStorageSize": 0}) as source,
        OrthancServer(version, count_received=False) as destination,
    ):
        for n in range(studies):
            source.upload(make(int(per_study * scale) or 1, patient_id=f"B{n}", accession=f"B{n}", seed=n))
        total = source.count()
        results: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        contend("bare", source, destination)  # the first would pay for the servers' fresh memory
        for _round in range(rounds):
            for name in contenders:  # in turn, so that a drift of the machine meets all alike
                results[name].append(contend(name, source, destination, connections))
    amount = f"{total} images of {size} in {studies} studies"
    print(f"\nOrthanc {version}, {amount}, {connections} connections, medians of {rounds} rounds")
    base = statistics.median(r["seconds"] for r in results[contenders[0]])
    for name in contenders:
        seconds = statistics.median(r["seconds"] for r in results[name])
        ratio = statistics.median(
            b["seconds"] / r["seconds"] for b, r in zip(results[contenders[0]], results[name], strict=True)
        )
        cpu = statistics.median(r["cpu"] for r in results[name])
        peak = max(r["peak_mb"] for r in results[name])
        ledger = statistics.median(r.get("ledger", 0.0) for r in results[name])
        print(
            f"  {name:14} {total / seconds:7.0f} images/s   {ratio:5.2f} of {contenders[0]}   "
            f"CPU {cpu:5.1f} s   peak {peak:4.0f} MB" + (f"   ledger {ledger / seconds:4.1%} CPU" if ledger else "")
        )
    if "ferry" in results and "orthanc-tools" in results:
        ours = statistics.median(r["seconds"] for r in results["ferry"])
        theirs = statistics.median(r["seconds"] for r in results["orthanc-tools"])
        print(f"  DICOM Ferry is {theirs / ours:.1f} x orthanc-tools")
    assert base > 0


if __name__ == "__main__":
    main()
