"""Kept totals equal the deliveries themselves, whatever is done in whatever order."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.ledger.ledger import Ledger
from core.ledger.rows import OPEN_UNTIL, Delivery
from core.model.job import JobState
from core.model.outcome import (
    DeliveryState,
    Evidence,
    EvidenceLevel,
    Failure,
    FailureClass,
    Method,
    SourceState,
    study_state,
)
from core.model.study import InstanceRef, StudyInfo

S = DeliveryState
FAILURE = Failure("http-500", FailureClass.RETRY, "It did not work.")
FINAL_STATES = st.lists(st.sampled_from([S.FAILED, S.CANCELLED, S.CONFLICT]), min_size=1, unique=True)
PROOFS = st.sampled_from([S.VERIFIED, S.SKIPPED, S.CONFLICT, S.COMMITTED])
LEVELS = st.sampled_from(EvidenceLevel)


class Totals(RuleBasedStateMachine):
    """One job, two studies, two destinations; the engine's moves at random, in the orders that it keeps to.

    `hands` holds what was claimed and not yet let go; nobody else touches a transfer of which something is in hand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.open(Path(self.folder.name) / "ledger.sqlite")
        self.job = self.ledger.add_job("clone", "job", {}, follow=False, state=JobState.RUNNING)
        self.transfers: set[int] = set()
        self.hands: dict[int, list[Delivery]] = {}

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def rest(self, n: int) -> int | None:
        free = sorted(self.transfers - self.hands.keys())
        return free[n % len(free)] if free else None

    @rule(
        study=st.integers(0, 1), first=st.integers(0, 6), count=st.integers(1, 5), version=st.integers(0, 2),
        size=st.integers(1, 3), last=st.booleans(),
    )  # fmt: skip
    def plan(self, study: int, first: int, count: int, version: int, size: int, last: bool) -> None:
        uid = f"1.{study}"
        page = [
            InstanceRef(f"{uid}.{n}", f"{uid}.1", uid, f"r{n}", size * 10, f"{version}{n}")
            for n in range(first, first + count)
        ]
        planned = self.ledger.plan_page(self.job, 1, "A", StudyInfo(uid), ["B", "C"], page, last=last).wait()
        self.transfers.update(planned.transfer_ids.values())

    @rule(which=st.integers(0, 9), limit=st.integers(1, 4), wanted=st.sampled_from(EvidenceLevel))
    def claim(self, which: int, limit: int, wanted: EvidenceLevel) -> None:
        transfer = self.rest(which)
        if transfer is None:
            return
        self.ledger.writer.flush()
        found = self.ledger.claim(transfer, 0, limit, 1e12, states=OPEN_UNTIL[wanted])
        if found:
            self.hands[transfer] = found

    def hand(self, n: int) -> tuple[int, list[Delivery]] | None:
        held = sorted(self.hands)
        return (held[n % len(held)], self.hands[held[n % len(held)]]) if held else None

    @rule(which=st.integers(0, 9))
    def send(self, which: int) -> None:
        if found := self.hand(which):
            ready = [d for d in found[1] if d.state is not S.SENDING]
            self.ledger.sending(ready, "relay")

    @rule(which=st.integers(0, 9), how_many=st.integers(1, 4))
    def acknowledge(self, which: int, how_many: int) -> None:
        if found := self.hand(which):
            for d in [d for d in found[1] if d.state is S.SENDING][:how_many]:
                self.ledger.sent(d, "Success", "ref")

    @rule(which=st.integers(0, 9), state=PROOFS)
    def prove(self, which: int, state: DeliveryState) -> None:
        if found := self.hand(which):
            transfer, mine = found
            evidence = Evidence(Method.DIGEST, datetime.now(UTC), "0")
            self.ledger.proved([(d, state, evidence) for d in mine if d.state in (S.PLANNED, S.SENT)])
            self.let_go(transfer, mine)

    @rule(which=st.integers(0, 9), committed=st.booleans(), again=st.booleans())
    def commit(self, which: int, committed: bool, again: bool) -> None:
        """A commitment comes, or doesn't, for what is claimed; a person or a listing may have come before it."""
        if found := self.hand(which):
            transfer, mine = found
            asked = [d for d in mine if d.state in (S.VERIFIED, S.SENT)]
            if committed:
                evidence = Evidence(Method.COMMITMENT, datetime.now(UTC))
                self.ledger.committed([(d, S.COMMITTED, evidence) for d in asked])
            else:
                self.ledger.not_committed([(d, FAILURE, 1e9 if again else None) for d in asked])
            self.let_go(transfer, mine)

    @rule(which=st.integers(0, 9), again=st.booleans())
    def fail(self, which: int, again: bool) -> None:
        if found := self.hand(which):
            transfer, mine = found
            self.ledger.trouble([(d, FAILURE, 1e9 if again else None) for d in mine])
            self.let_go(transfer, mine)

    @rule(which=st.integers(0, 9))
    def give_back(self, which: int) -> None:
        if found := self.hand(which):
            transfer, mine = found
            self.ledger.back([d for d in mine if d.state is S.SENDING])
            self.let_go(transfer, mine)

    @rule(which=st.integers(0, 9))
    def crash(self, which: int) -> None:
        """Whatever was in hand is in the ledger as it was left."""
        if found := self.hand(which):
            self.let_go(*found)

    def let_go(self, transfer: int, _mine: list[Delivery]) -> None:
        self.ledger.writer.flush()
        del self.hands[transfer]

    @rule(
        which=st.integers(0, 9), state=st.sampled_from([S.CANCELLED, S.FAILED]), wanted=st.sampled_from(EvidenceLevel)
    )
    def close_open(self, which: int, state: DeliveryState, wanted: EvidenceLevel) -> None:
        transfer = self.rest(which)
        if transfer is not None:
            failure = FAILURE if state is S.FAILED else None
            self.ledger.close_open(transfer, state, failure, wanted=wanted).wait()

    @rule(states=FINAL_STATES, overwrite=st.booleans())
    def reopen(self, states: list[DeliveryState], overwrite: bool) -> None:
        self.ledger.reopen(sorted(self.transfers - self.hands.keys()), states, overwrite=overwrite).wait()

    @rule(which=st.integers(0, 9), fallback=st.sampled_from(["D", "E"]))
    def divert(self, which: int, fallback: str) -> None:
        transfer = self.rest(which)
        if transfer is not None:
            self.ledger.divert(transfer, fallback).wait()

    @rule(state=st.sampled_from([SourceState.DELETING, SourceState.DELETED, SourceState.REFUSED]))
    def delete(self, state: SourceState) -> None:
        self.ledger.writer.flush()
        for study in (1, 2):
            found = self.ledger.deletable(study, "", 3)
            self.ledger.source_states([(d.key, state, "") for d in found]).wait()

    @rule()
    def let_rest(self) -> None:
        self.ledger.rest(sorted(self.transfers)).wait()

    @invariant()
    def totals_are_what_the_deliveries_say(self) -> None:
        self.ledger.writer.flush()
        found = self.ledger.job(self.job)
        assert found
        assert found.counts == self.ledger.job_counts(self.job)
        for row in self.ledger.transfers_by_id(sorted(self.transfers)):
            assert row.counts.bytes_done <= row.counts.bytes_total
            states = {study_state(row.counts, active=a, evidence=EvidenceLevel.VERIFIED) for a in (True, False)}
            needing = {
                study_state(row.counts, active=a, evidence=EvidenceLevel.VERIFIED, needs_person=True)
                for a in (True, False)
            }
            assert row.state in states | needing


Totals.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_totals = Totals.TestCase
