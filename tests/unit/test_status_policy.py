"""The table of answers: complete, in plain sentences, and applied by side and by what was sent."""

from __future__ import annotations

import pytest

from core.model.errors import (
    AnswerError,
    ConfigurationError,
    FerryError,
    LocalError,
    SecretError,
    TransportError,
    TransportFault,
)
from core.model.outcome import FailureClass
from core.wire.status import (
    Meaning,
    answer_error,
    http_failure,
    policy,
    status_error,
    stow_error,
    stow_row,
    stow_warning,
)

# The HTTP and local parts of the list of answers that must be survived, and what each means for a delivery.
HTTP_CLASSES = {
    400: FailureClass.PERMANENT,
    401: FailureClass.PERSON,
    403: FailureClass.PERSON,
    404: FailureClass.PERSON,
    407: FailureClass.PERSON,
    408: FailureClass.RETRY,
    409: FailureClass.PERMANENT,
    413: FailureClass.PERMANENT,
    415: FailureClass.PERMANENT,
    424: FailureClass.RETRY,
    429: FailureClass.BUSY,
    500: FailureClass.RETRY,
    502: FailureClass.DOWN,
    503: FailureClass.DOWN,
    504: FailureClass.DOWN,
    507: FailureClass.BUSY,
    302: FailureClass.PERSON,
    202: FailureClass.PERSON,
    204: FailureClass.PERSON,
    418: FailureClass.PERMANENT,
    599: FailureClass.RETRY,
}
ANSWERS = {
    "gone": FailureClass.GONE,
    "not-the-server": FailureClass.PERSON,
    "bad-dicom": FailureClass.PERMANENT,
    "filtered-out": FailureClass.PERMANENT,
    "not-stored": FailureClass.PERMANENT,
    "no-room": FailureClass.BUSY,
    "file-missing": FailureClass.PERMANENT,
    "database": FailureClass.RETRY,
    "truncated": FailureClass.RETRY,
    "push-failed": FailureClass.ASK,
    "bearer-token": FailureClass.PERSON,
    "stow-silent": FailureClass.ASK,
    "token-renewed": FailureClass.RETRY,
    "oauth-token-rejected": FailureClass.PERSON,
    "azure-role": FailureClass.PERSON,
    "azure-version": FailureClass.PERSON,
    "over-limit": FailureClass.PERMANENT,
    "cannot-transcode": FailureClass.PERMANENT,
}
# Why a DICOMweb service did not store an image: PS3.18 Table I.2-2, and Azure's own.
STOW = {
    45070: ("exists", FailureClass.ASK),
    273: ("exists", FailureClass.ASK),
    45071: ("pending", FailureClass.ASK),
    272: ("processing", FailureClass.PERMANENT),
    43264: ("invalid", FailureClass.PERMANENT),
    43265: ("other-study", FailureClass.PERMANENT),
    43519: ("a9xx", FailureClass.PERMANENT),
    42752: ("resources", FailureClass.BUSY),
    43007: ("resources", FailureClass.BUSY),
    290: ("sop-class", FailureClass.PERMANENT),
    49442: ("transfer-syntax", FailureClass.PERMANENT),
    49152: ("cxxx", FailureClass.PERMANENT),
    53247: ("cxxx", FailureClass.PERMANENT),
    292: ("not-authorised", FailureClass.PERSON),
    279: ("instance", FailureClass.PERMANENT),
    1: ("other", FailureClass.PERMANENT),
    65535: ("other", FailureClass.PERMANENT),
    None: ("untold", FailureClass.ASK),
}
LOCAL = {
    "disk-full": FailureClass.BUSY,
    "ledger-locked": FailureClass.RETRY,
    "clock": FailureClass.RETRY,
    "locked": FailureClass.RETRY,
    "path-too-long": FailureClass.PERMANENT,
    "share-lost": FailureClass.DOWN,
    "port-in-use": FailureClass.PERSON,
    "second-copy": FailureClass.PERSON,
    "permission": FailureClass.PERSON,
}


def transport(fault: TransportFault, *, sent: bool) -> TransportError:
    return TransportError(fault, "Something happened.", request_sent=sent)


@pytest.mark.parametrize(("status", "cls"), HTTP_CLASSES.items())
def test_every_http_status_has_its_class(status: int, cls: FailureClass) -> None:
    failure = http_failure(status_error(status, node="PACS"), side="destination", node="PACS")
    assert failure.cls is cls
    assert "PACS" in failure.sentence


def test_every_status_has_a_sentence() -> None:
    for status in range(100, 600):
        failure = http_failure(AnswerError(status, "?"), side="destination", node="PACS")
        assert len(failure.sentence) > 10


@pytest.mark.parametrize(("code", "cls"), ANSWERS.items())
def test_every_word_of_a_node_has_its_class(code: str, cls: FailureClass) -> None:
    error = answer_error(code, node="PACS", status=200, detail="raw")
    assert error.code == code
    failure = http_failure(error, side="destination", node="PACS")
    assert (failure.code, failure.cls, failure.detail, failure.side) == (code, cls, "raw", "destination")


@pytest.mark.parametrize(("code", "cls"), LOCAL.items())
def test_every_trouble_of_this_computer_has_its_class(code: str, cls: FailureClass) -> None:
    failure = http_failure(LocalError("Something.", code=code), side="here", node="Archive")
    assert failure.cls is cls
    assert failure.code == code


@pytest.mark.parametrize("fault", TransportFault)
@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_every_fault_of_the_way_has_a_class(fault: TransportFault, sent: bool, side: str) -> None:
    failure = http_failure(transport(fault, sent=sent), side=side, node="PACS")
    assert failure.code == fault.value
    assert failure.sentence


@pytest.mark.parametrize("fault", [TransportFault.TIMEOUT, TransportFault.CUT, TransportFault.ABORTED])
def test_what_may_have_been_stored_is_asked_for(fault: TransportFault) -> None:
    assert http_failure(transport(fault, sent=True), side="destination", node="B").cls is FailureClass.ASK
    assert http_failure(transport(fault, sent=False), side="destination", node="B").cls is not FailureClass.ASK
    assert http_failure(transport(fault, sent=True), side="source", node="A").cls is FailureClass.RETRY


@pytest.mark.parametrize("fault", [TransportFault.NAME, TransportFault.REFUSED])
def test_a_node_that_is_not_there_is_down(fault: TransportFault) -> None:
    assert http_failure(transport(fault, sent=False), side="destination", node="B").cls is FailureClass.DOWN


def test_a_wait_asked_for_is_kept() -> None:
    error = status_error(503, node="PACS", retry_after=7.0)
    assert http_failure(error, side="destination", node="PACS").retry_after == 7.0


@pytest.mark.parametrize(("reason", "expected"), STOW.items())
def test_every_reason_of_stow_has_its_class(reason: int | None, expected: tuple[str, FailureClass]) -> None:
    code, cls = expected
    failure = http_failure(stow_error(reason, node="Cloud", detail="raw"), side="destination", node="Cloud")
    assert (failure.code, failure.cls) == (f"stow-{code}", cls)
    assert "Cloud" in failure.sentence
    assert failure.detail.endswith("raw")
    assert str(reason) in failure.detail or reason is None


def test_what_is_there_already_is_a_duplicate_and_what_is_pending_waits() -> None:
    assert stow_row(45070)[1].meaning is Meaning.DUPLICATE
    assert {row.meaning for code, row in policy().stow.items() if code != "exists"} == {Meaning.FAILURE}
    assert http_failure(stow_error(45071, node="Cloud"), side="destination", node="Cloud").delays


def test_no_reason_of_stow_is_in_two_rows() -> None:
    for reason in range(65536):
        found = [
            code
            for code, row in policy().stow.items()
            if any(reason == one if isinstance(one, int) else one[0] <= reason <= one[1] for one in row.reason)
        ]
        assert len(found) <= 1, (reason, found)


@pytest.mark.parametrize(("reason", "word"), [(45056, "changed"), (45062, "left out"), (45063, "match"), (1, "search")])
def test_what_a_service_remarks_is_told(reason: int, word: str) -> None:
    assert word in stow_warning(reason, node="Cloud")
    assert "Cloud" in stow_warning(999, node="Cloud")
    assert stow_warning(None, node="Cloud") == ""


@pytest.mark.parametrize("status", [429, 424])
def test_a_server_that_says_how_long_is_left_alone_for_that_time(status: int) -> None:
    asked = http_failure(status_error(status, node="Cloud", retry_after=7.0), side="destination", node="Cloud")
    assert (asked.cls, asked.retry_after) == (FailureClass.DOWN, 7.0)
    assert http_failure(status_error(status, node="Cloud"), side="destination", node="Cloud").cls is not asked.cls


def test_a_redirect_is_told_with_its_address() -> None:
    location = "https://user:secret@other.example/dicom-web/studies?token=secret"
    failure = http_failure(status_error(302, node="PACS", location=location), side="destination", node="PACS")
    assert "https://other.example/dicom-web/studies" in failure.sentence
    assert "secret" not in failure.sentence
    for odd in ("", "http://[::", "\x00"):
        assert "PACS" in status_error(302, node="PACS", location=odd).sentence


def test_errors_of_the_configuration_need_a_person() -> None:
    for error in (ConfigurationError("The name is wrong.", "Correct it."), SecretError("The keyring is locked.")):
        failure = http_failure(error, side="here", node="PACS")
        assert failure.cls is FailureClass.PERSON
        assert failure.sentence == error.sentence


def test_an_unknown_error_keeps_its_own_words() -> None:
    failure = http_failure(FerryError("Odd.", "Look.", code="odd"), side="here", node="PACS")
    assert (failure.code, failure.sentence, failure.next_step) == ("odd", "Odd.", "Look.")


def test_words_are_plain() -> None:
    rows = policy()
    tables = [*rows.transport.values(), *rows.http.values(), *rows.answer.values(), *rows.local.values()]
    tables += rows.stow.values()
    for row in tables:
        assert row.sentence.endswith("."), row.sentence
        assert "{node}" in row.sentence or row is rows.local["ledger-locked"] or row is rows.local["second-copy"]
        assert "{" not in row.next_step


def test_a_node_may_have_any_name() -> None:
    failure = http_failure(status_error(500, node="{x} %s {node}"), side="source", node="{x} %s {0}")
    assert "{x} %s {0}" in failure.sentence
