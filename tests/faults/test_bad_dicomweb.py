"""DICOMweb services that cut lists short, lie, break off or are not there: nothing is believed that wasn't said."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, Presence, StudyInfo, StudyQuery
from core.nodes.base import Acknowledgement, DeleteState
from core.nodes.dicomweb.node import DicomwebNode
from core.wire.abort import Abort
from core.wire.oauth import TokenSource
from core.wire.status import http_failure
from tests.support.dicomweb_nodes import dicomweb_node
from tests.support.raw_http import Peer, RawServer
from tests.support.studies import small_study
from tests.support.web_service import (
    Asked,
    Reply,
    image_item,
    paged,
    series_item,
    stow_item,
    study_item,
    web_service,
)

STUDY = StudyInfo("1.2.1")
PAGE = Reply(200, b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"})
HTML_NOT_FOUND = Reply(404, b"<html>404</html>", {"Content-Type": "text/html"})


def image(number: int, series: str = "1.2.1.1") -> InstanceRef:
    return InstanceRef(f"{series}.{number}", series, "1.2.1")


def listed(node: DicomwebNode, query: StudyQuery | None = None) -> tuple[set[str], bool, str]:
    listing = node.studies(query or StudyQuery())
    found = {study.study_uid for study in listing}
    return found, listing.outcome.complete, listing.outcome.reason


# --- lists -----------------------------------------------------------------------------------------------------------


def test_a_limit_of_the_service_below_ours_is_gone_past_page_by_page() -> None:
    studies = [study_item(n) for n in range(250)]
    with web_service(lambda asked: Reply(200, paged(studies, asked, cap=100))) as (url, _), dicomweb_node(url) as node:
        assert listed(node) == ({f"1.2.{n}" for n in range(250)}, True, "")


def test_a_service_that_refuses_a_high_limit_is_asked_with_a_lower_one() -> None:
    studies = [study_item(n) for n in range(250)]

    def answer(asked: Asked) -> Reply:
        if int(asked.query["limit"]) > 200:
            return Reply(400, b"the limit is 200")
        return Reply(200, paged(studies, asked))

    with web_service(answer) as (url, _), dicomweb_node(url) as node:
        assert listed(node)[0] == {f"1.2.{n}" for n in range(250)}


def test_a_service_that_ignores_offset_is_asked_for_in_parts_by_date() -> None:
    """A silent cap at 100 and no pages: what is cut off is recognised, and all are found by their dates."""
    studies = [study_item(n, date=f"2024{1 + n % 12:02}{1 + n // 12:02}") for n in range(240)]

    def answer(asked: Asked) -> Reply:
        first, _, last = asked.query.get("StudyDate", "00010101-99991231").partition("-")
        within = [s for s in studies if first <= s["00080020"]["Value"][0] <= (last or first)]
        return Reply(200, paged(within, asked, cap=100, offset=False))

    with web_service(answer) as (url, asked), dicomweb_node(url) as node:
        found, complete, reason = listed(node)
        assert found == {f"1.2.{n}" for n in range(240)}
        assert "without a date" in reason or complete  # it can't be asked for those, and says so
        assert len(asked) < 60


def test_a_cap_that_no_question_gets_below_is_said() -> None:
    studies = [study_item(n) for n in range(240)]
    answer = Reply(200, studies[:100], {"Warning": '299 web "There are 140 additional results"'})
    with web_service(lambda _: answer) as (url, _), dicomweb_node(url) as node:
        found, complete, reason = listed(node)
        assert len(found) == 100
        assert not complete
        assert "does not look at what is asked for" in reason


def instances_of(series: list[dict[str, Any]], images: list[dict[str, Any]], **how: Any) -> Callable[[Asked], Reply]:
    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("/instances"):
            wanted = asked.query.get("SOPInstanceUID")
            found = [i for i in images if not wanted or i["00080018"]["Value"][0] in wanted.split(",")]
            return Reply(200, paged(found, asked, **how))
        return Reply(200, paged(series if asked.path.endswith("/series") else [study_item(1)], asked))

    return answer


@pytest.mark.parametrize("counted", [True, False])
def test_a_list_of_images_that_is_cut_off_is_never_passed_off_as_all(counted: bool) -> None:
    images = [image_item("1.2.1.1", f"1.2.1.1.{n}") for n in range(250)]
    answer = instances_of([series_item("1.2.1.1", 250 if counted else None)], images, cap=100, offset=False)
    with web_service(answer) as (url, _), dicomweb_node(url) as node, pytest.raises(AnswerError) as raised:
        list(node.instances(STUDY))
    assert raised.value.code == "incomplete"


def test_images_that_a_list_may_have_left_out_are_asked_for_one_by_one() -> None:
    images = [image_item("1.2.1.1", f"1.2.1.1.{n}") for n in range(250)]
    answer = instances_of([series_item("1.2.1.1", 250)], images, cap=100, offset=False)
    with web_service(answer) as (url, _), dicomweb_node(url) as node:
        held = node.confirm(STUDY, [image(n) for n in (0, 1, 2, 150, 249, 250, 999)])
    assert [h.presence for h in held] == [Presence.PRESENT] * 5 + [Presence.ABSENT] * 2


def test_images_that_are_deleted_while_they_are_listed_hide_no_others() -> None:
    """A list by offset moves up when something at its beginning goes: the last image seen has to come again."""
    images = [image_item("1.2.1.1", f"1.2.1.1.{n}") for n in range(300)]

    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("/instances"):
            page = paged(images, asked, cap=100)
            if asked.query["offset"] == "0" and len(images) == 300:
                del images[:10]
            return Reply(200, page)
        return Reply(200, paged([series_item("1.2.1.1")] if asked.path.endswith("/series") else [], asked))

    with web_service(answer) as (url, _), dicomweb_node(url) as node:
        found = {one.sop_uid for page in node.instances(STUDY) for one in page}
    assert {f"1.2.1.1.{n}" for n in range(10, 300)} <= found


def test_a_list_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.nodes.dicomweb.query.MOST_LISTED", 3000)

    def answer(asked: Asked) -> Reply:
        if asked.path.endswith("/instances"):
            start = int(asked.query["offset"])
            return Reply(200, [image_item("1.2.1.1", f"1.2.1.1.{n}") for n in range(start, start + 500)])
        return Reply(200, paged([series_item("1.2.1.1")], asked))

    with web_service(answer) as (url, _), dicomweb_node(url) as node, pytest.raises(AnswerError) as raised:
        list(node.instances(STUDY))
    assert raised.value.code == "incomplete"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'[{"0020000D": ' + b"[" * 100_000,
        b'[{"0020000D": {"vr": "UI", "Value": ["' + b"1" * 20_000_000 + b'"]}}]',
        b"[1, 2]",
        b'["text"]',
        b'[{"a": 1}',
        b'[{"a": 1}] and more',
        b"[{'a': 1}]",
        b"",
        b"\xff\xfe\x00\x00",
        b'[{"a": ' + b"9" * 10_000 + b"}]",
    ],
)
def test_json_that_is_none_or_out_of_all_bounds_is_refused_with_a_sentence(body: bytes) -> None:
    with web_service(lambda _: Reply(200, body)) as (url, _), dicomweb_node(url) as node:
        with pytest.raises(AnswerError) as raised:
            listed(node)
        assert raised.value.code == "not-the-server"
        with pytest.raises(FerryError):
            node.confirm(STUDY, [image(1)])


def test_values_of_the_wrong_shape_do_no_harm() -> None:
    item = study_item(7) | {
        "00100010": {"vr": "PN", "Value": ["no object", 5, None, {"Alphabetic": 3}]},
        "00100020": {"vr": "LO", "Value": [[[]]]},
        "00080020": {"vr": "DA", "Value": "20240101"},
        "00201208": {"vr": "IS", "Value": [1e400 if False else -5]},
        "00081030": "text",
        "00080050": None,
    }
    with web_service(lambda asked: Reply(200, paged([item], asked))) as (url, _), dicomweb_node(url) as node:
        assert [s.study_uid for s in node.studies(StudyQuery())] == ["1.2.7"]


# --- something else answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [PAGE, HTML_NOT_FOUND], ids=["html-200", "404"])
def test_a_page_or_a_wrong_path_is_never_an_answer(reply: Reply) -> None:
    """Neither "nothing is there" nor "deleted" nor "stored"."""
    with web_service(lambda _: reply) as (url, _), dicomweb_node(url) as node:
        expected = {"not-the-server", "not-found", "not-dicom"}
        for act in (
            lambda: list(node.studies(StudyQuery())),
            lambda: list(node.instances(STUDY)),
            lambda: node.confirm(STUDY, [image(1)]),
            lambda: list(node.delete(STUDY, [image(1)])),
            lambda: node.store(STUDY, image(1), b"\0" * 128 + b"DICM"),
            lambda: node.open(image(1)).__enter__(),
            lambda: node.tags([image(1)], frozenset({"Modality"})),
        ):
            with pytest.raises(AnswerError) as raised:
                act()
            assert raised.value.code in expected


def test_a_404_for_a_study_of_a_service_that_is_there_means_none() -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(200, [study_item(5)]) if asked.path == "/web/studies" else Reply(404)

    with web_service(answer) as (url, _), dicomweb_node(url) as node:
        assert node.confirm(STUDY, [image(1)])[0].presence is Presence.ABSENT
        with pytest.raises(AnswerError) as raised:
            node.open(image(1)).__enter__()
        assert raised.value.code == "gone"


# --- reading ----------------------------------------------------------------------------------------------------------

FILE = next(iter(small_study(1).plan.encoded()))
MULTIPART = 'multipart/related; type="application/dicom"; boundary=bb'


def body_of(*files: bytes, sized: bool = False) -> bytes:
    heads = [b"Content-Length: %d\r\n" % len(f) if sized else b"" for f in files]
    parts = (b"--bb\r\nContent-Type: application/dicom\r\n%b\r\n%b\r\n" % one for one in zip(heads, files, strict=True))
    return b"".join(parts) + b"--bb--"


def read(node: DicomwebNode, one: InstanceRef | None = None) -> bytes:
    whole = bytearray()
    piece = memoryview(bytearray(1000))
    with node.open(one or image(1)) as stream:
        while count := stream.readinto(piece):
            whole += piece[:count]
        assert stream.length in (None, len(whole))
    return bytes(whole)


@pytest.mark.parametrize("sized", [True, False])
def test_an_image_that_is_cut_anywhere_is_no_image(sized: bool) -> None:
    """However its end is told: the answer's length is right for what came, and the final boundary is missing."""
    whole = body_of(FILE, sized=sized)
    cut = [whole]

    def answer(_asked: Asked) -> Reply:
        return Reply(200, cut[0], {"Content-Type": MULTIPART})

    with web_service(answer) as (url, _), dicomweb_node(url) as node:
        assert read(node) == FILE
        for end in (0, 3, 40, 60, 200, len(whole) // 2, len(whole) - 9, len(whole) - 4, len(whole) - 2, len(whole) - 1):
            cut[0] = whole[:end]
            with pytest.raises(FerryError) as raised:
                read(node)
            assert raised.value.code in ("cut", "not-dicom"), end


def test_a_single_part_is_understood_where_a_service_gives_no_other() -> None:
    def answer(asked: Asked) -> Reply:
        if asked.headers["accept"].startswith("multipart"):
            return Reply(406, b"single part only")
        assert "transfer-syntax=*" in asked.headers["accept"]
        return Reply(200, FILE, {"Content-Type": "application/dicom"})

    with web_service(answer) as (url, asked), dicomweb_node(url) as node:
        assert read(node) == FILE
        assert read(node) == FILE
        assert len(asked) == 3, "what it gives is remembered"


def test_another_kind_of_part_is_no_image() -> None:
    body = body_of(b"\xff\xd8 a picture").replace(b"application/dicom", b"image/jpeg")
    with web_service(lambda _: Reply(200, body, {"Content-Type": MULTIPART})) as (url, _), dicomweb_node(url) as node:
        with pytest.raises(AnswerError) as raised:
            read(node)
        assert raised.value.code == "not-dicom"


def test_an_image_that_drips_is_waited_for_and_one_that_stops_is_not() -> None:
    """The time-out is for silence, never for the whole of a request."""
    whole = body_of(FILE)
    silent = threading.Event()
    pause = threading.Event()

    def serve(peer: Peer) -> None:
        while peer.head():
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(whole)}\r\n\r\n".encode())
            for at in range(0, len(whole), 200):
                peer.send(whole[at : at + 200])
                if silent.is_set() and at > 400:
                    peer.gone()
                    return
                pause.wait(0.4)

    with RawServer(serve) as server, dicomweb_node(server.url, idle_timeout=2.0) as node:
        assert len(whole) / 200 * 0.4 > 2.4
        assert read(node) == FILE
        silent.set()
        with pytest.raises(TransportError) as raised:
            read(node)
        assert raised.value.fault is TransportFault.TIMEOUT


def test_a_series_that_breaks_off_is_fetched_image_by_image() -> None:
    files = list(small_study(20).plan.encoded())
    refs = [_ref(file) for file in files]
    by_uid = {ref.sop_uid: file for ref, file in zip(refs, files, strict=True)}

    def answer(asked: Asked) -> Reply:
        if "/instances/" in asked.path:
            return Reply(200, body_of(by_uid[asked.path.rpartition("/")[2]]), {"Content-Type": MULTIPART})
        half = body_of(*files)
        return Reply(200, half[: len(half) // 2], {"Content-Type": MULTIPART})

    with web_service(answer) as (url, asked), dicomweb_node(url) as node:
        node.read_ahead(refs)
        assert all(read(node, ref) == by_uid[ref.sop_uid] for ref in refs)
        series = [one for one in asked if "/instances/" not in one.path]
        assert len(series) == 1, "a series that did not come whole is not asked for again"
        assert 10 <= len(asked) <= 13


def _ref(file: bytes) -> InstanceRef:
    from io import BytesIO

    from pydicom import dcmread

    found = dcmread(BytesIO(file), stop_before_pixels=True)
    return InstanceRef(str(found.SOPInstanceUID), str(found.SeriesInstanceUID), str(found.StudyInstanceUID))


# --- sending ----------------------------------------------------------------------------------------------------------


def send(reply: Callable[[Asked], Reply | None], count: int = 4) -> tuple[list[Any], list[Asked]]:
    """Outcomes of some images sent together."""
    with web_service(reply) as (url, asked), dicomweb_node(url) as node:
        return node.store_many(STUDY, [(image(n), b"%d" % n) for n in range(count)]), asked


def codes(outcomes: list[Any]) -> list[str]:
    return ["stored" if isinstance(o, Acknowledgement) else o.code for o in outcomes]


def uid(number: int) -> str:
    return f"1.2.1.1.{number}"


def test_200_with_failures_is_no_success_for_those_that_failed() -> None:
    answer = stow_item([uid(0)], {uid(1): 43264, uid(2): None, uid(0): 272})
    outcomes, asked = send(lambda _: Reply(200, answer))
    assert codes(outcomes) == ["stow-processing", "stow-invalid", "stow-untold", "stow-silent"]
    assert asked[0].parts == [b"0", b"1", b"2", b"3"]
    failures = [http_failure(o, side="destination", node="WEB") for o in outcomes]
    assert [f.cls for f in failures] == [
        FailureClass.PERMANENT, FailureClass.PERMANENT, FailureClass.ASK, FailureClass.ASK,
    ]  # fmt: skip


def test_202_with_warnings_is_stored_and_the_warning_kept() -> None:
    outcomes, _ = send(lambda _: Reply(202, stow_item([uid(0)], {}, {uid(1): 45056})), 2)
    assert codes(outcomes) == ["stored", "stored"]
    assert outcomes[0].warning == ""
    assert "changed" in outcomes[1].warning


def test_409_with_reasons_is_each_ones_own_and_what_is_there_already_is_no_failure() -> None:
    outcomes, _ = send(lambda _: Reply(409, stow_item([], {uid(0): 45070, uid(1): 272, uid(2): 42753, uid(3): 45071})))
    assert codes(outcomes) == ["stored", "stow-processing", "stow-resources", "stow-pending"]
    assert not outcomes[0].stored, "it was there already: what lies there has to be looked at"


def test_what_is_refused_as_a_whole_is_found_out_one_by_one() -> None:
    def answer(asked: Asked) -> Reply:
        if b"2" in asked.parts:
            return Reply(400, stow_item([]))
        return Reply(200, stow_item([uid(int(part)) for part in asked.parts]))

    outcomes, asked = send(answer)
    assert codes(outcomes) == ["stored", "stored", "bad-dicom", "stored"]
    assert len(asked) == 5


def test_413_is_answered_with_smaller_requests() -> None:
    def answer(asked: Asked) -> Reply:
        if len(asked.parts) > 2 or asked.parts == [b"5"]:
            return Reply(413, b"<html>too large</html>")
        return Reply(200, stow_item([uid(int(part)) for part in asked.parts if part != b"5"]))

    outcomes, asked = send(answer, 7)
    assert codes(outcomes)[:5] == ["stored"] * 5
    assert codes(outcomes)[6] == "stored"
    assert codes(outcomes)[5] in ("too-large", "stow-silent")
    assert all(len(one.parts) <= 2 or one is asked[0] or len(one.parts) < 7 for one in asked)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(200, b""), "stow-silent"),
        (Reply(204), "stow-silent"),
        (Reply(200, {}), "not-the-server"),
        (PAGE, "not-the-server"),
        (Reply(403), "forbidden"),
        (Reply(404), "not-found"),
        (Reply(415), "bad-request"),
        (Reply(429, b"", {"Retry-After": "7"}), "too-many"),
        (Reply(503, b"", {"Retry-After": "7"}), "unavailable"),
    ],
)
def test_an_answer_that_names_no_image_is_the_same_for_all(reply: Reply, code: str) -> None:
    outcomes, asked = send(lambda _: reply, 3)
    assert codes(outcomes) == [code] * 3
    assert len(asked) == 1
    if "Retry-After" in reply.headers:
        assert outcomes[0].retry_after == 7


def test_a_connection_that_is_cut_leaves_all_of_a_request_unknown() -> None:
    outcomes, _ = send(lambda _: None, 3)
    assert codes(outcomes) == ["cut"] * 3
    assert {http_failure(o, side="destination", node="WEB").cls for o in outcomes} == {FailureClass.ASK}


def test_an_early_success_is_none() -> None:
    """A proxy that answers before it has the whole image can't have stored it."""

    def serve(peer: Peer) -> None:
        peer.head()
        peer.answer(b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.1.1.1"]}}]}}')
        peer.gone()

    with RawServer(serve) as server, dicomweb_node(server.url) as node, pytest.raises(TransportError) as raised:
        node.store(STUDY, image(1), b"\0" * 30_000_000)
    assert raised.value.fault is TransportFault.CUT


def test_a_token_that_is_refused_is_renewed_once_and_the_request_repeated() -> None:
    class Tokens(TokenSource):
        def __init__(self) -> None:
            self.renewed: list[str] = []

        def header(self, abort: Abort | None = None) -> str:
            return "Bearer old"

        def renew(self, rejected: str, abort: Abort | None = None) -> str:
            self.renewed.append(rejected)
            return "Bearer new"

        def close(self) -> None: ...

    def answer(asked: Asked) -> Reply:
        if asked.headers.get("authorization") != "Bearer new":
            return Reply(401)
        return Reply(200, stow_item([uid(0)]) if asked.method == "POST" else [study_item(1)])

    with web_service(answer) as (url, asked), dicomweb_node(url) as node:
        node.access.tokens = tokens = Tokens()
        node.probe()
        assert node.store(STUDY, image(0), memoryview(b"x" * 300_000)).stored
        assert tokens.renewed == ["Bearer old", "Bearer old"]
        assert asked[-1].body.count(b"x" * 300_000) == 1
        stream = _Stream(b"x" * 600_000)
        with pytest.raises(AnswerError) as raised:
            node.store(STUDY, image(0), stream)
        assert raised.value.code == "token-renewed"
        assert http_failure(raised.value, side="destination", node="WEB").cls is FailureClass.RETRY


class _Stream:
    def __init__(self, body: bytes) -> None:
        self.length: int | None = len(body)
        self._rest = memoryview(body)

    def readinto(self, view: memoryview, /) -> int:
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


@pytest.mark.parametrize("how", ["all", "some", "none", "cut", "refused"])
def test_small_images_are_read_back_and_what_does_not_come_is_looked_for_in_the_list(how: str) -> None:
    """An image that comes is there; of one that doesn't, only the list tells. That holds for lies as well."""
    files = list(small_study(30).plan.encoded())
    refs = [_ref(file) for file in files]
    given = {"all": 30, "some": 20, "none": 0, "cut": 30, "refused": 0}[how]
    body = body_of(*files[:given])
    images = [image_item(ref.series_uid, ref.sop_uid) for ref in refs[:25]]
    lists = instances_of([series_item(refs[0].series_uid)], images)

    def answer(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(200, stow_item([ref.sop_uid for ref in refs]))
        if asked.headers["accept"].startswith("multipart"):
            if how == "refused":
                return Reply(406)
            return Reply(200, body[: len(body) // 2] if how == "cut" else body, {"Content-Type": MULTIPART})
        return lists(asked)

    with web_service(answer) as (url, asked), dicomweb_node(url) as node:
        node.store_many(STUDY, list(zip(refs, files, strict=True)))
        held = [one.presence for one in node.confirm(STUDY, refs)]
        assert asked[1].path.endswith(f"/series/{refs[0].series_uid}")
        count = 30 if how == "all" else 25
        assert held == [Presence.PRESENT] * count + [Presence.ABSENT] * (30 - count)
        before = len(asked)
        held = [one.presence for one in node.confirm(STUDY, refs)]
        assert held == [Presence.PRESENT] * 25 + [Presence.ABSENT] * 5, "asked once more it is the list that counts"
        assert not any(one.headers["accept"].startswith("multipart") for one in asked[before:])


# --- deleting ---------------------------------------------------------------------------------------------------------


def deleting(status: int, *, still_there: bool = True) -> tuple[Callable[[Asked], Reply], list[bool]]:
    there = [True]

    def answer(asked: Asked) -> Reply:
        if asked.method == "DELETE":
            there[0] = still_there and status >= 300
            return Reply(status)
        if asked.path == "/web/studies":
            return Reply(200, [study_item(1)])
        return Reply(200, body_of(FILE), {"Content-Type": MULTIPART}) if there[0] else Reply(404)

    return answer, there


@pytest.mark.parametrize(
    ("status", "still_there", "state"),
    [
        (204, False, DeleteState.DELETED),
        (200, False, DeleteState.DELETED),
        (404, False, DeleteState.GONE),
        (404, True, DeleteState.REFUSED),
        (405, True, DeleteState.REFUSED),
        (403, True, DeleteState.REFUSED),
    ],
)
def test_what_an_answer_to_a_deletion_means(status: int, still_there: bool, state: DeleteState) -> None:
    answer, _ = deleting(status, still_there=still_there)
    with web_service(answer) as (url, _), dicomweb_node(url) as node:
        assert [o.state for o in node.delete(STUDY, [image(1)])] == [state]


def test_an_image_that_is_not_what_was_sent_any_more_is_kept() -> None:
    from dataclasses import replace

    answer, there = deleting(204)
    with web_service(answer) as (url, asked), dicomweb_node(url) as node:
        other = replace(image(1), digest="0" * 32)
        assert [o.state for o in node.delete(STUDY, [other])] == [DeleteState.CHANGED]
        assert there == [True]
        assert not any(one.method == "DELETE" for one in asked)
        same = replace(image(1), digest=hashlib.md5(FILE, usedforsecurity=False).hexdigest())
        assert [o.state for o in node.delete(STUDY, [same])] == [DeleteState.DELETED]
