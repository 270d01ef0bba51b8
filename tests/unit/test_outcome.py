"""The state of a study: as good as its weakest instance, never green without evidence."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.model.outcome import (
    COUNT_NAMES,
    FINAL,
    OPEN,
    STUDY_STATE_WORDS,
    Counts,
    DeliveryState,
    EvidenceLevel,
    StudyState,
    study_state,
)

#: A busy machine is no failure.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

V, S, C = EvidenceLevel.VERIFIED, EvidenceLevel.SENT, EvidenceLevel.COMMITTED
GREEN = {StudyState.CONFIRMED, StudyState.COMMITTED, StudyState.ALREADY_THERE}


@pytest.mark.parametrize(
    ("counts", "active", "evidence", "state"),
    [
        (Counts(), False, V, StudyState.WAITING),
        (Counts(planned=5), False, V, StudyState.WAITING),
        (Counts(planned=5), True, V, StudyState.WAITING),
        (Counts(planned=4, sending=1), True, V, StudyState.SENDING),
        (Counts(planned=4, verified=1), True, V, StudyState.SENDING),
        (Counts(planned=4, verified=1), False, V, StudyState.WAITING),
        (Counts(sent=5), True, V, StudyState.CONFIRMING),
        (Counts(sent=5), False, V, StudyState.SENT),
        (Counts(sent=5), False, S, StudyState.SENT),
        (Counts(sent=4, verified=1), False, V, StudyState.SENT),
        (Counts(verified=5), False, V, StudyState.CONFIRMED),
        (Counts(verified=4, skipped=1), False, V, StudyState.CONFIRMED),
        (Counts(skipped=5), False, V, StudyState.ALREADY_THERE),
        (Counts(committed=5), False, C, StudyState.COMMITTED),
        (Counts(committed=4, verified=1), False, C, StudyState.CONFIRMED),
        (Counts(committed=4, verified=1), True, C, StudyState.CONFIRMING),
        (Counts(verified=4, conflict=1), False, V, StudyState.DIFFERENT),
        (Counts(verified=4, cancelled=1), False, V, StudyState.CANCELLED),
        (Counts(cancelled=5), False, V, StudyState.CANCELLED),
        (Counts(failed=5), False, V, StudyState.FAILED),
        (Counts(failed=1, verified=4), False, V, StudyState.ATTENTION),
        (Counts(failed=1, planned=4), True, V, StudyState.SENDING),
        (Counts(failed=1, planned=4), False, V, StudyState.ATTENTION),
    ],
)
def test_states(counts, active, evidence, state):
    assert study_state(counts, active=active, evidence=evidence) is state


def test_a_failure_that_a_person_must_mend():
    assert study_state(Counts(failed=5), active=False, evidence=V, needs_person=True) is StudyState.ATTENTION


counted = st.builds(
    Counts, **{s.value: st.sampled_from([0, 0, 1, 3]) for s in DeliveryState}
)  # fmt: skip


@calm
@given(counted, st.booleans(), st.sampled_from(EvidenceLevel), st.booleans())
def test_green_only_when_every_instance_has_evidence(counts, active, evidence, needs_person):
    state = study_state(counts, active=active, evidence=evidence, needs_person=needs_person)
    if state in GREEN:
        assert counts.total > 0
        assert counts.confirmed == counts.total
    if state is StudyState.COMMITTED:
        assert not counts.verified
    if counts.failed and not active:
        assert state in (StudyState.ATTENTION, StudyState.FAILED)
    if not active:
        assert state not in (StudyState.SENDING, StudyState.CONFIRMING)


@calm
@given(counted, counted)
def test_sums(one, two):
    both = one.plus(two)
    assert both.total == one.total + two.total
    for state in DeliveryState:
        assert both.of(state) == one.of(state) + two.of(state)
    assert one.total == sum(one.of(s) for s in DeliveryState)


def test_every_state_is_counted_and_has_words():
    assert set(STUDY_STATE_WORDS) == set(StudyState)
    assert {s.value for s in DeliveryState} <= set(COUNT_NAMES)
    assert set(DeliveryState) == FINAL | OPEN
    assert not FINAL & OPEN
