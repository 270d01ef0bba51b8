"""The tables of DIMSE answers: one row for each status and rejection, with its class, in plain sentences."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from core.engine.retry import HOURLY, next_attempt
from core.model.errors import AnswerError, ConfigurationError, FerryError, TransportError, TransportFault
from core.model.outcome import Failure, FailureClass
from core.wire.dimse.errors import AssociationAborted, AssociationRejected
from core.wire.dimse.status import (
    Meaning,
    Service,
    dimse_answer,
    dimse_error,
    dimse_failure,
    rejection_row,
    status_row,
    store_status,
)
from core.wire.status import policy

WITH_STATUSES = [service for service in Service if service is not Service.ASSOCIATION]
C = FailureClass

#: C-STORE (PS3.4 B.2.3, PS3.7 Annex C): what each answer means, and what happens to the delivery then.
STORE = {
    (0xA700, 0xA701, 0xA7AB, 0xA7FF): C.BUSY,
    (0xA900, 0xA955, 0xA9FF): C.PERMANENT,
    (0xC000, 0xC123, 0xCFFF): C.PERMANENT,
    (0x0122,): C.PERMANENT,
    (0x0110, 0x0210, 0x0211, 0x0213): C.RETRY,
    (0x0112, 0x0117, 0x0124, 0x0212): C.PERSON,
    (0xFF00, 0xFF01): C.PERMANENT,
    (0xFFF0, 0xFFF7, 0xFFFF): C.PERMANENT,
    (0x0001, 0x0105, 0x0119, 0x0120, 0x1234, 0xA600, 0xA800, 0xAA00, 0xD000, 0xFE00, 0xFF02): C.PERMANENT,
    (0xB001, 0xB00A, 0xBFFF): C.ASK,  # a warning that nobody knows: what the destination lists decides
}
STORE_CASES = [(status, cls) for statuses, cls in STORE.items() for status in statuses]

FIND = {
    0xA700: C.BUSY, 0xA900: C.PERMANENT, 0xC000: C.RETRY, 0xC123: C.RETRY, 0xFE00: C.RETRY, 0x0122: C.PERSON,
    0x0124: C.PERSON, 0x0110: C.RETRY, 0x4321: C.RETRY,
}  # fmt: skip
RETRIEVE = {
    0x0000: C.ASK, 0xB000: C.ASK, 0xA701: C.BUSY, 0xA702: C.BUSY, 0xA7FF: C.BUSY, 0xA801: C.PERSON, 0xA900: C.PERMANENT,
    0xC000: C.RETRY, 0xCFFF: C.RETRY, 0xFE00: C.ASK, 0x0122: C.PERSON, 0x0124: C.PERSON, 0x4321: C.ASK,
}  # fmt: skip
COMMITMENT = {
    0x0110: C.RETRY, 0x0112: C.ASK, 0x0119: C.PERMANENT, 0x0122: C.PERMANENT, 0x0131: C.RETRY, 0x0213: C.BUSY,
    0x0000: C.RETRY, 0x4321: C.RETRY,
}  # fmt: skip
REJECTIONS = {
    (1, 1, 3): ("calling-aet", C.PERSON),
    (1, 1, 7): ("called-aet", C.PERSON),
    (1, 1, 1): ("rejected", C.PERSON),
    (1, 1, 2): ("application-context", C.PERSON),
    (1, 2, 1): ("rejected", C.PERSON),
    (1, 2, 2): ("application-context", C.PERSON),
    (1, 3, 1): ("congestion", C.BUSY),
    (1, 3, 2): ("local-limit", C.BUSY),
    (2, 3, 1): ("congestion", C.BUSY),
    (2, 3, 2): ("local-limit", C.BUSY),
    (2, 1, 1): ("rejected-transient", C.BUSY),
    (2, 1, 3): ("rejected-transient", C.BUSY),
    (2, 2, 1): ("rejected-transient", C.BUSY),
    (0, 0, 0): ("rejected", C.PERSON),
    (255, 255, 255): ("rejected", C.PERSON),
}


def failure(error: FerryError, side: str = "destination") -> Failure:
    return dimse_failure(error, side=side, node="PACS")


@pytest.mark.parametrize("service", WITH_STATUSES)
def test_every_status_has_exactly_one_row(service: Service) -> None:
    """Reading the tables complains of a status that is named twice; every other one has the service's last row."""
    rows = [status_row(service, status) for status in range(0x10000)]
    assert all(row.code.startswith(f"{service}-") for row in rows)
    named = {
        f"{service}-{key}" for table in _tables(service) for key, row in policy().dimse[table].items() if row.status
    }
    overridden = named - {row.code for row in rows}
    assert not overridden, f"no status ever means {overridden}"


def test_a_status_named_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.wire.dimse import status as module

    twice = policy().dimse["find"]["cxxx"]
    damaged = policy().model_copy(update={"dimse": {**policy().dimse, "find": {"one": twice, "two": twice}}})
    monkeypatch.setattr(module, "policy", lambda: damaged)
    with pytest.raises(ConfigurationError, match="damaged"):
        module._rows_by_status.__wrapped__(Service.FIND)


def test_every_rejection_has_exactly_one_row() -> None:
    rows = policy().dimse["association"]
    for result in (0, 1, 2, 3, 255):
        for source in (0, 1, 2, 3, 4, 255):
            for reason in (*range(11), 255):
                assert sum((result, source, reason) in row.rejected for row in rows.values()) <= 1
                assert rejection_row(result, source, reason).code.startswith("association-")


@pytest.mark.parametrize(("status", "cls"), STORE_CASES, ids=[f"{status:04X}" for status, _ in STORE_CASES])
def test_store_failures(status: int, cls: FailureClass) -> None:
    row = store_status(status)
    assert row.meaning is Meaning.FAILURE or status == 0xFE00
    assert not row.is_done
    found = failure(dimse_error(Service.STORE, status, node="PACS", comment="Out of luck"))
    assert (found.code, found.cls, found.side) == (row.code, cls, "destination")
    assert f"{status:04X}H" in found.detail
    assert "Out of luck" in found.detail
    assert "PACS" in found.sentence
    assert found.next_step


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0x0000, Meaning.DONE),
        (0xB000, Meaning.WARNING),
        (0xB006, Meaning.WARNING),
        (0xB007, Meaning.WARNING),
        (0x0111, Meaning.DUPLICATE),
    ],
)
def test_store_answers_that_are_no_failure(status: int, meaning: Meaning) -> None:
    row = store_status(status)
    assert row.meaning is meaning
    assert row.is_done == (meaning is not Meaning.DUPLICATE)
    assert row.code == f"store-{status:04x}"


def test_only_these_are_stored() -> None:
    """Whatever else a server answers, the image does not count as stored."""
    done = {status for status in range(0x10000) if store_status(status).is_done}
    assert done == {0x0000, 0xB000, 0xB006, 0xB007}


@pytest.mark.parametrize(
    ("service", "cases"),
    [("find", FIND), ("move", RETRIEVE), ("get", RETRIEVE), ("commitment", COMMITMENT)],
)
def test_other_services(service: str, cases: dict[int, FailureClass]) -> None:
    for status, cls in cases.items():
        found = failure(dimse_error(service, status, node="PACS"))
        assert found.cls is cls, f"{service} {status:04X}"
        assert found.code.startswith(service)


@pytest.mark.parametrize("service", ["find", "move", "get"])
def test_pending_is_never_the_last_answer(service: str) -> None:
    assert status_row(service, 0xFF00).meaning is status_row(service, 0xFF01).meaning is Meaning.PENDING
    assert status_row(service, 0xFE00).meaning is Meaning.CANCELLED
    assert status_row(service, 0x0000).meaning is Meaning.DONE


def test_reading_again_does_no_harm() -> None:
    for status in (0x0000, 0xB000, 0xFE00, 0xFF00, 0x4321):
        assert failure(dimse_error("get", status, node="PACS"), "source").cls is C.RETRY
        assert failure(dimse_error("move", status, node="PACS"), "destination").cls is C.ASK


@pytest.mark.parametrize("service", ["find", "move", "get", "echo", "store", "action"])
def test_done_is_a_status_and_never_a_reason(service: str) -> None:
    assert status_row(service, 0).meaning is Meaning.DONE
    assert all(status_row("commitment", reason).meaning is Meaning.FAILURE for reason in range(0x10000))


@pytest.mark.parametrize("code", [
    "find-no-identifier", "find-unreadable", "move-failed-some", "get-sent-none", "get-missing", "move-no-end",
    "move-still-sending", "commitment-no-report", "commitment-not-named", "association-no-context",
    "association-no-service", "action-not-offered",
])  # fmt: skip
def test_what_is_no_status_by_itself(code: str) -> None:
    error = dimse_answer(code, node="PACS", detail="12 of 13")
    assert error.code == code
    found = failure(error, "source")
    assert (found.code, found.detail) == (code, "12 of 13")
    assert "PACS" in found.sentence


def test_a_word_that_nobody_knows() -> None:
    with pytest.raises(KeyError):
        dimse_answer("store-of-wine", node="PACS")
    found = failure(AnswerError(0, "Odd.", "Look.", code="odd"))
    assert (found.code, found.sentence) == ("odd", "Odd.")


@pytest.mark.parametrize(("rejection", "expected"), REJECTIONS.items())
def test_rejections(rejection: tuple[int, int, int], expected: tuple[str, FailureClass]) -> None:
    row = rejection_row(*rejection)
    assert (row.code, row.cls) == (f"association-{expected[0]}", expected[1])
    found = failure(AssociationRejected("pacs.lan:104", "PACS", *rejection))
    assert (found.code, found.cls) == (row.code, row.cls)
    assert f"result {rejection[0]}" in found.detail


def test_broken_associations() -> None:
    """What may have been stored is asked for; what certainly was not, and what is only read, is tried again."""
    aborted = AssociationAborted("PACS:104", 0, 0)
    assert (failure(aborted).code, failure(aborted).cls) == ("association-aborted", C.ASK)
    assert failure(aborted, "source").cls is C.RETRY
    aborted.request_sent = False
    assert (failure(aborted).code, failure(aborted).cls) == ("association-aborted", C.RETRY)
    for fault in (TransportFault.TIMEOUT, TransportFault.CUT, TransportFault.PROTOCOL):
        assert failure(TransportError(fault, "Something happened.")).cls is C.ASK
    stranger = failure(TransportError(TransportFault.PROTOCOL, "No DICOM.", request_sent=False))
    assert (stranger.code, stranger.cls) == ("association-no-dicom", C.PERSON)
    assert failure(TransportError(TransportFault.REFUSED, "Nobody.", request_sent=False)).cls is C.DOWN


@pytest.mark.parametrize("status", [0x0110, 0x0210, 0x0211, 0x0213])
def test_three_retries_at_5_20_and_60_seconds(status: int) -> None:
    found = failure(dimse_error("store", status, node="PACS"))
    assert found.delays == (5, 20, 60)
    now = time.time()
    for attempt, delay in enumerate(found.delays, start=1):
        again = next_attempt(found, attempt, 2, [1000.0], now, follow=False)
        assert again is not None
        assert 0.9 * delay <= again - now <= 1.1 * delay
    assert next_attempt(found, 4, 100, [1.0], now, follow=False) is None
    assert next_attempt(found, 4, 100, [1.0], now, follow=True) == now + HOURLY


def test_other_failures_have_the_delays_of_the_job() -> None:
    found = failure(dimse_error("store", 0xA700, node="PACS"))
    assert found.delays == ()
    again = next_attempt(found, 1, 3, [7.0], 0.0, follow=False)
    assert again is not None
    assert 6 < again < 8


def test_words_are_plain() -> None:
    for table, rows in policy().dimse.items():
        for key, row in rows.items():
            assert row.sentence.endswith("."), (table, key)
            assert "{node}" in row.sentence
            assert "{" not in row.next_step
            assert row.next_step.endswith(".") or row.meaning is Meaning.DONE
            assert not (row.status and row.rejected)


def _tables(service: Service) -> tuple[str, ...]:
    from core.wire.dimse import status as module

    return module._TABLES[service][:1]


def test_every_word_that_the_program_uses_is_in_the_table() -> None:
    core = Path(__file__).resolve().parents[2] / "core"
    used = {
        code
        for path in core.rglob("*.py")
        for code in re.findall(r'dimse_answer\(\s*"([a-z0-9-]+)"', path.read_text(encoding="utf-8"))
    }
    assert used
    for code in used:
        assert dimse_answer(code, node="PACS").code == code
