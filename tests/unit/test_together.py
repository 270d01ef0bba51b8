"""Images that travel together: the same outcomes, retries and proof as alone, whatever the nodes make of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.ledger.book import Verb
from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.job import JobState
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Acknowledgement, BatchLimits, Fetched
from core.wire.abort import Abort
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryNode, md5


class RowNode(MemoryNode):
    """Gives and takes several at a time, but leaves out what `doubts` names; `rows` has the size of each row."""

    def __init__(self, name: str, **options: bool) -> None:
        super().__init__(name, **options)
        self.doubts: set[str] = set()
        self.rows: list[int] = []
        self.error: TransportError | None = None

    def open_together(
        self, instances: Sequence[InstanceRef], into: memoryview, *, abort: Abort | None = None
    ) -> list[Fetched | None]:
        self._raise_once()
        self.rows.append(len(instances))
        found: list[Fetched | None] = []
        at = 0
        for one in instances:
            held = self.held.get(one.sop_uid)
            if held is None or one.sop_uid in self.doubts:
                found.append(None)
                continue
            end = at + len(held[1])
            into[at:end] = held[1]
            found.append(Fetched(into[at:end], md5(held[1])))
            at = end
        return found

    batch_limits = BatchLimits(10, 6000)

    def store_many(
        self, study: StudyInfo, images: Sequence[tuple[InstanceRef, bytes | memoryview]], *, abort: Abort | None = None
    ) -> list[Acknowledgement | FerryError | None]:
        if self.error is not None:
            error, self.error = self.error, None
            return [error] * len(images)
        self.rows.append(len(images))
        return [
            None if one.sop_uid in self.doubts else self.store(study, one, body, abort=abort) for one, body in images
        ]

    def _raise_once(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


@pytest.fixture
def nodes(bench: Bench) -> tuple[RowNode, RowNode]:
    a, b = RowNode("A"), RowNode("B")
    bench.nodes.update(A=a, B=b)
    a.fill(2, 60)
    return a, b


def same(a: RowNode, b: RowNode) -> bool:
    return {uid: data for uid, (_r, data) in a.held.items()} == {uid: data for uid, (_r, data) in b.held.items()}


def test_they_do_travel_together_and_each_is_proved(bench: Bench, nodes: tuple[RowNode, RowNode]) -> None:
    a, b = nodes
    job = bench.job("clone", workers=2)
    bench.start()
    assert bench.finish(job).counts.verified == 120
    assert same(a, b)
    assert max(a.rows) == 10
    assert sorted(b.stores) == sorted(a.held)  # each once


def test_what_is_in_doubt_goes_alone(bench: Bench, nodes: tuple[RowNode, RowNode]) -> None:
    a, b = nodes
    a.doubts = {"1.2.3.0.1.7", "1.2.3.1.1.50"}
    b.doubts = {"1.2.3.0.1.7", "1.2.3.0.1.30"}
    job = bench.job("clone", workers=2)
    bench.start()
    assert bench.finish(job).counts.verified == 120
    assert same(a, b)
    assert sorted(b.stores) == sorted(a.held)


def test_one_that_is_gone_at_the_source_fails_alone(bench: Bench, nodes: tuple[RowNode, RowNode]) -> None:
    a, b = nodes

    def vanish(instance: InstanceRef) -> None:
        if instance.sop_uid == "1.2.3.0.1.9":
            raise AnswerError(404, "It is gone.", code="gone")

    a.on_read = vanish
    a.doubts = {"1.2.3.0.1.9"}
    job = bench.job("clone", workers=2, max_attempts=1)
    bench.start()
    counts = bench.finish(job).counts
    assert (counts.verified, counts.failed) == (119, 1)
    assert "1.2.3.0.1.9" not in b.held


@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("fault", [TransportFault.TIMEOUT, TransportFault.REFUSED])
def test_a_node_that_does_not_answer_a_row_is_tried_again(
    bench: Bench, nodes: tuple[RowNode, RowNode], side: str, fault: TransportFault
) -> None:
    a, b = nodes
    (a if side == "A" else b).error = TransportError(fault, "It doesn't answer.")
    job = bench.job("clone", workers=2)
    bench.start()
    assert bench.finish(job).counts.verified == 120
    assert same(a, b)


def test_a_liar_is_found_out(bench: Bench, nodes: tuple[RowNode, RowNode]) -> None:
    _a, b = nodes
    b.lies = True
    job = bench.job("forward", workers=2, after="move", max_attempts=2)
    bench.start()
    counts = bench.finish(job).counts
    assert (counts.verified, counts.failed) == (0, 120)
    assert len(nodes[0].held) == 120


def test_a_cancel_leaves_none_behind(bench: Bench, nodes: tuple[RowNode, RowNode]) -> None:
    """What a row has left open when the job is cancelled is neither sent nor forgotten."""
    a, b = nodes
    a.doubts = set(a.held)
    job = bench.job("clone", workers=2)
    cancelled: list[bool] = []

    def cancel(_instance: InstanceRef) -> None:
        if not cancelled:
            cancelled.append(True)
            bench.command(Verb.CANCEL, job_id=job)
        bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the cancelled job")

    b.on_store = cancel
    bench.start()
    bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the cancelled job")
    bench.wait(lambda: bench.same_totals(job), "the totals")
    counts = bench.record(job).counts
    assert counts.cancelled > 0
    assert counts.verified + counts.sent + counts.cancelled + counts.skipped == counts.total
    bench.workers_end()
