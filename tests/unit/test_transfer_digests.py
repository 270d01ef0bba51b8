"""Where an image is hashed on its way through this computer: only where somebody compares the digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.engine import carried, transfer
from core.model.study import InstanceRef
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryNode, md5

SIZES = (800, transfer.INLINE_BYTES + 4000)  # read whole, and passed on in pieces


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each image that was hashed."""
    seen: list[bool] = []
    real = carried.md5

    def counting(data: bytes | memoryview = b"") -> object:
        seen.append(True)
        return real(data)

    monkeypatch.setattr(transfer, "md5", counting)
    return seen


def nodes(bench: Bench, size: int, *, compares: bool) -> tuple[MemoryNode, MemoryNode]:
    """A source that keeps no digests, as a folder, and a destination that tells them or doesn't, as a DICOM node."""
    a, b = bench.node("A", bulk_digests=False), bench.node("B")
    a.keeps_digests = False
    b.gives_digests = compares
    a.fill(1, 3, size=size)
    return a, b


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("compares", "times"), [(False, 0), (True, 3)])
def test_hashed_only_for_a_destination_that_gives_digests(
    bench: Bench, hashed: list[bool], size: int, compares: bool, times: int
) -> None:
    nodes(bench, size, compares=compares)
    job = bench.job("forward")
    bench.start()
    assert bench.finish(job).counts.verified == 3
    assert len(hashed) == times


@pytest.mark.parametrize("size", SIZES)
def test_a_move_knows_what_was_sent_before_it_counts_as_sent(bench: Bench, size: int) -> None:
    """Changed at the source after it was sent: it stays, though the destination can tell no digests."""
    a, b = nodes(bench, size, compares=False)
    told: dict[str, str | None] = {}

    def change(instance: InstanceRef) -> None:
        ref, _data = a.held[instance.sop_uid]
        told[instance.sop_uid] = instance.digest
        if instance.sop_uid.endswith(".1"):
            a.held[instance.sop_uid] = (replace(ref), b"other content")

    a.on_delete = change
    originals = {uid: md5(data) for uid, (_ref, data) in a.held.items()}
    job = bench.job("forward", after="move")
    bench.start()
    bench.finish(job)
    assert told == originals
    assert list(a.held) == ["1.2.3.0.1.1"]
    assert b.held.keys() == originals.keys()
