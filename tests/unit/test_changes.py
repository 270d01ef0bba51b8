"""What the ledger keeps of processing steps, and what a move may delete on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from core.ledger.ledger import Ledger
from core.ledger.rows import Delivery
from core.model.job import JobState
from core.model.outcome import DeliveryState, Evidence, Method
from core.model.steps import Change
from core.model.study import InstanceRef, StudyInfo

STUDY = StudyInfo("1.2", patient_id="P")
AT = datetime.now().astimezone()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def planned(ledger: Ledger, *destinations: str, count: int = 2) -> dict[str, list[Delivery]]:
    fields = {"source": ["A"], "destination": list(destinations)}
    job = ledger.add_job("forward", "test", fields, follow=False, state=JobState.RUNNING)
    page = [InstanceRef(f"1.2.3.{n}", "1.2.3", "1.2", size=10) for n in range(count)]
    done = ledger.plan_page(job, 1, "A", STUDY, destinations, page, last=True).wait()
    return {name: ledger.claim(key, 0, 10, 1e12) for name, key in done.transfer_ids.items()}


def change(number: int, *, read: str = "r", sent: str = "s") -> Change:
    return Change(f"9.3.{number}", "9.2", "9.1", "NEW", f"{read}{number}", f"{sent}{number}", 12, ("Test: done.",))


def arrive(ledger: Ledger, delivery: Delivery, made: Change, *, digest: str | None = None) -> None:
    delivery.change = made
    ledger.sending([delivery], "relay").wait()
    ledger.changed(delivery)
    ledger.sent(delivery, "ok", "")
    seen = made.digest if digest is None else digest
    ledger.proved([(delivery, DeliveryState.VERIFIED, Evidence(Method.DIGEST, AT, seen))])
    ledger.writer.flush()


def deletable(ledger: Ledger):  # type: ignore[no-untyped-def]
    return ledger.changed_deletable(1, ledger.deletable(1, "", 10))


def test_the_last_attempt_counts_and_is_shown(ledger: Ledger) -> None:
    (first, second) = planned(ledger, "B")["B"]
    first.change = change(0, sent="earlier")
    ledger.changed(first)
    first.change = change(0)
    ticket = ledger.changed(first, ticket=True)
    assert ticket is not None
    ticket.wait()
    assert ledger.changes_of([first.id, second.id]) == {first.id: change(0)}
    rows = {r.sop_uid: r for r in ledger.deliveries(transfer_id=first.transfer_id)}
    assert rows["1.2.3.0"].change == change(0)
    assert rows["1.2.3.1"].change is None
    assert ledger.study_at(1, "B") == StudyInfo("9.1", patient_id="NEW")
    assert ledger.study_at(1, "C") is None


def test_what_was_read_may_go_when_all_destinations_hold_what_was_made_of_it(ledger: Ledger) -> None:
    there = planned(ledger, "B", "C")
    for name in ("B", "C"):
        for number, delivery in enumerate(there[name]):
            arrive(ledger, delivery, change(number, sent=name))
    found = deletable(ledger)
    assert [d.instance.digest for d in found] == ["r0", "r1"], "the source's own file, not what was sent"
    assert all(d.same_everywhere and d.compared for d in found)
    assert {(name, made.digest, proof) for name, made, proof in found[0].sent} == {("B", "B0", "B0"), ("C", "C0", "C0")}


def test_anything_unlike_stays(ledger: Ledger) -> None:
    there = planned(ledger, "B", "C", count=4)
    for name in ("B", "C"):
        arrive(ledger, there[name][0], change(0, read=name))  # it changed at the source in between
        arrive(ledger, there[name][1], change(1), digest="other" if name == "C" else None)  # it holds something else
        arrive(ledger, there[name][2], change(2))
    arrive(ledger, there["B"][3], change(3))
    ledger.sending([there["C"][3]], "relay").wait()
    ledger.sent(there["C"][3], "ok", "")
    evidence = Evidence(Method.UID, AT)
    ledger.proved([(there["C"][3], DeliveryState.VERIFIED, evidence)])  # nobody knows what was sent there
    ledger.writer.flush()
    assert [d.same_everywhere for d in deletable(ledger)] == [False, False, True, False]


def test_changes_go_with_their_job(ledger: Ledger) -> None:
    (first, _second) = planned(ledger, "B")["B"]
    first.change = change(0)
    ledger.changed(first)
    ledger.update_job(1, state=JobState.FINISHED.value)
    ledger.remove_job(1)
    assert ledger.changes_of([first.id]) == {}
