"""What a DICOM node lists: studies, series and images, whole; from servers that cut off, break off and lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from core.model.errors import AnswerError, FerryError, TransportError
from core.model.study import InstanceRef, Listing, StudyInfo, StudyQuery
from core.nodes.dicom.node import DicomNode
from tests.support.dicom_nodes import dicom_node
from tests.support.dimse_acts import Abort, Answer
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Find
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.studies import NAMES, Study, make_study

OPEN = {"DicomAlwaysAllowFind": True, "DefaultEncoding": "Utf8"}


@pytest.fixture(scope="module")
def some() -> list[Study]:
    """Six studies of several patients, dates and kinds."""
    return [
        make_study(
            list(NAMES.values())[number * 2],
            patient_id=f"P{number}",
            modality=("CT", "MR", "US")[number % 3],
            series=1 + number % 2,
            instances=3,
            study_date=f"2024031{number}",
            accession=f"ACC{number}",
            description=f"Head {number}",
        )
        for number in range(6)
    ]


@pytest.fixture(scope="module")
def servers(some: list[Study], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, int]]]:
    """AE title and port of each kind of server, holding `some`."""
    images = [i for s in some for i in s]
    with (
        OrthancServer("1.10", name="OLD", config=OPEN) as old,
        OrthancServer("1.12", name="NEW", config=OPEN) as new,
        QueryRetrieveServer(tmp_path_factory.mktemp("qrscp") / "pacs") as dcmtk,
    ):
        old.upload(images)
        new.upload(images)
        with dicom_node(dcmtk.aet, dcmtk.port) as node:
            for study in some:
                for uid, image in zip(study.sop_uids, study, strict=True):
                    node.store(StudyInfo(study.study_uid), InstanceRef(uid, "", study.study_uid), image)
        yield {
            "1.10": (old.aet, old.dicom_port),
            "1.12": (new.aet, new.dicom_port),
            "dcmqrscp": (dcmtk.aet, dcmtk.port),
        }


@pytest.fixture(params=["1.10", "1.12", "dcmqrscp"])
def node(request: pytest.FixtureRequest, servers: dict[str, tuple[str, int]]) -> Iterator[DicomNode]:
    with dicom_node(*servers[request.param]) as opened:
        yield opened


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer


@contextmanager
def at(pacs: FaultyPeer, **fields: Any) -> Iterator[DicomNode]:
    with dicom_node(pacs.aet, pacs.port, **{"answer_timeout": 2, **fields}) as opened:
        yield opened


def listed(node: DicomNode, query: StudyQuery | None = None) -> tuple[list[StudyInfo], Listing]:
    listing = node.studies(query or StudyQuery())
    return list(listing), listing.outcome


def uids(found: list[StudyInfo]) -> set[str]:
    return {s.study_uid for s in found}


# --- real servers


def test_all_studies(node: DicomNode, some: list[Study]) -> None:
    found, outcome = listed(node)
    assert outcome == Listing(len(some))
    assert uids(found) == {s.study_uid for s in some}
    first = next(s for s in found if s.patient_id == "P0")
    assert (first.study_date, first.accession, first.description) == ("20240310", "ACC0", "Head 0")
    assert first.ref == first.study_uid


def test_names_of_every_script(node: DicomNode, some: list[Study]) -> None:
    found, _ = listed(node)
    assert {s.patient_id: s.patient_name for s in found} == {s.plan.patient_id: s.plan.patient for s in some}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (StudyQuery(patient_id="P3"), {3}),
        (StudyQuery(accession="ACC4"), {4}),
        (StudyQuery(patient_id="P*"), {0, 1, 2, 3, 4, 5}),
        (StudyQuery(patient_id="NOBODY"), set()),
        (StudyQuery(date_from="20240312", date_to="20240313"), {2, 3}),
        (StudyQuery(date_from="20240314"), {4, 5}),
        (StudyQuery(date_to="20240310"), {0}),
        (StudyQuery(modalities=("MR",)), {1, 4}),
        (StudyQuery(modalities=("MR", "US")), {1, 2, 4, 5}),
        (StudyQuery(description="Head*2"), {2}),
        (StudyQuery(patient_name="Ferry*"), {0}),
        (StudyQuery(patient_name="*ада*"), set()),
    ],
)
def test_searches(node: DicomNode, some: list[Study], query: StudyQuery, wanted: set[int]) -> None:
    found, outcome = listed(node, query)
    assert uids(found) == {some[n].study_uid for n in wanted}
    assert outcome.complete


def test_a_name_beyond_ascii_is_found(node: DicomNode, some: list[Study]) -> None:
    for study in some:
        family = study.plan.patient.split("^")[0]
        assert study.study_uid in uids(listed(node, StudyQuery(patient_name=family + "*"))[0]), family


@pytest.mark.parametrize("lists", [True, False])
def test_studies_by_their_uids(servers: dict[str, tuple[str, int]], some: list[Study], lists: bool) -> None:
    for aet, port in servers.values():
        with dicom_node(aet, port, uid_lists=lists) as node:
            wanted = [s.study_uid for s in some[:4]]
            found, outcome = listed(node, StudyQuery(study_uids=(*wanted, "1.2.3.4.5")))
            assert uids(found) == set(wanted)
            assert outcome == Listing(4)
            one = node.study(wanted[0])
            assert one is not None
            assert one.study_uid == wanted[0]
            assert node.study("1.2.3.4.5") is None


def test_images_of_a_study(node: DicomNode, some: list[Study]) -> None:
    for study in some[:2]:
        info = node.study(study.study_uid)
        assert info is not None
        found = [i for page in node.instances(info) for i in page]
        assert [i.sop_uid for i in found] != []
        assert {i.sop_uid for i in found} == set(study.sop_uids)
        assert {i.series_uid for i in found} == set(study.series_uids)
        assert all(i.study_uid == study.study_uid and i.ref == i.sop_uid for i in found)
        assert all(bool(i.sop_class) != (node.fields.aet == "QRSCP") for i in found), "dcmqrscp doesn't tell it"
        assert all(i.series is not None and i.series.modality == study.plan.modality for i in found)
        series = study.series_uids[0]
        of_one = [i for page in node.instances(info, series_ref=series) for i in page]
        assert {i.sop_uid for i in of_one} == {i.sop_uid for i in found if i.series_uid == series}


def test_a_study_that_is_gone(node: DicomNode) -> None:
    with pytest.raises(AnswerError) as raised:
        list(node.instances(StudyInfo("1.2.3.4.5")))
    assert raised.value.code == "gone"


def test_tags_for_filters(node: DicomNode, some: list[Study]) -> None:
    info = node.study(some[1].study_uid)
    assert info is not None
    images = [i for page in node.instances(info) for i in page]
    tags = node.tags(images, frozenset({"InstanceNumber", "Modality"}))
    assert len(tags) == len(images)
    assert {t["Modality"] for t in tags} == {"MR"}
    assert {t["InstanceNumber"] for t in tags} == {"1", "2", "3"}
    for odd in ("(0009,1010)", "RequestAttributesSequence.ScheduledProcedureStepID", "TransferSyntaxUID"):
        with pytest.raises(AnswerError) as raised:
            node.tags(images, frozenset({"Modality", odd}))
        assert raised.value.code == "find-untold"


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_an_orthanc_that_cuts_off(version: str, start_orthanc: Callable[..., OrthancServer]) -> None:
    """With limits on studies and images: the studies come in parts, and images without a whole list are an error."""
    server = start_orthanc(version, name="LIMITED", config={**OPEN, "LimitFindResults": 5, "LimitFindInstances": 5})
    studies = [
        make_study(patient_id=f"P{n}", instances=2, study_date=f"20{10 + n // 9}0{1 + n % 9}15") for n in range(24)
    ]
    server.upload([i for s in studies for i in s])
    server.upload(long := make_study(patient_id="LONG", instances=8, study_date="20230101"))
    with dicom_node(server.aet, server.dicom_port) as node:
        found, outcome = listed(node)
        assert uids(found) == {s.study_uid for s in studies} | {long.study_uid}
        assert outcome.count == 25
        info = node.study(studies[0].study_uid)
        assert info is not None
        assert sum(len(page) for page in node.instances(info)) == 2
        images = [i.sop_uid for page in node.instances(StudyInfo(long.study_uid)) for i in page]
        assert set(images) == set(long.sop_uids), "by their numbers, where a list is cut off"
        assert len(images) == 8


# --- servers that misbehave


def dated(count: int, per_day: int = 3) -> list[Study]:
    """Studies of one image each, over years."""
    return [
        make_study(
            patient_id=f"P{n}",
            instances=1,
            size_bytes=200,
            study_date=f"{2005 + n // per_day % 19}{1 + n // per_day % 12:02}{1 + n // per_day % 28:02}",
            accession=f"A{n}",
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("limit", [100, 64, 87])
def test_a_silent_limit_is_found_out(pacs: FaultyPeer, limit: int) -> None:
    """Also one of an odd number, as long as the oldest or the newest are left out."""
    studies = sorted(dated(230), key=lambda s: s.plan.study_date)
    for study in studies:
        pacs.holds(study)
    pacs.on("find", Find(limit=limit))
    with at(pacs) as node:
        found, outcome = listed(node)
        assert uids(found) == {s.study_uid for s in studies}
        assert len(found) == len(studies)
        assert not outcome.complete
        assert f"at most {limit}" in outcome.reason
        assert "without a date" in outcome.reason


@pytest.mark.parametrize("act", [Answer(0xC000), Abort()], ids=["C000", "A-ABORT"])
def test_a_server_that_can_not_be_asked_for_studies_without_a_date(pacs: FaultyPeer, act: Any) -> None:
    for study in dated(60):
        pacs.holds(study)
    pacs.on("find", act, where=lambda request: b'""' in bytes(request.data))
    pacs.on("find", Find(limit=30))
    with at(pacs, find_limit=30) as node:
        found, outcome = listed(node)
    assert len(found) == 60
    assert "without a date" in outcome.reason


def test_a_list_of_exactly_a_hundred_is_looked_at_twice(pacs: FaultyPeer) -> None:
    for study in dated(100):
        pacs.holds(study)
    with at(pacs) as node:
        assert listed(node)[1] == Listing(100)
        asked = pacs.count("find")
        assert asked > 1
        assert len(listed(node)[0]) == 100
        assert pacs.count("find") - asked <= 3, "once it is known that there is no limit of 100"


def test_a_limit_that_a_person_knows(pacs: FaultyPeer) -> None:
    for study in dated(60):
        pacs.holds(study)
    pacs.on("find", Find(limit=7))
    with at(pacs, find_limit=7) as node:
        found, outcome = listed(node, StudyQuery(date_from="20000101", date_to="20251231"))
        assert len(found) == 60
        assert outcome.complete, "a range of dates has no studies without one"


def test_one_day_with_more_than_the_limit(pacs: FaultyPeer) -> None:
    """It is asked for by hours and minutes, and then by kinds; what can't be told apart any more is said."""
    for number in range(40):
        pacs.holds(make_study(patient_id=f"P{number}", instances=1, size_bytes=200, modality=("CT", "MR")[number % 2]))
    pacs.on("find", Find(limit=25))
    with at(pacs, find_limit=25) as node:
        found, outcome = listed(node)
        assert len(found) == 40
        assert not outcome.complete
        assert "kinds" in outcome.reason
    pacs.on("find", Find(limit=10))
    with at(pacs, find_limit=10) as node:
        found, outcome = listed(node, StudyQuery(modalities=("CT",)))
        assert len(found) >= 10
        assert not outcome.complete
        assert "same minute" in outcome.reason


@pytest.mark.parametrize(
    "act",
    [
        Find(fail_after=20, status=0xA700),
        Find(fail_after=20, status=0xC001),
        Find(fail_after=20, status=0xFE00),
        Find(limit=20, then=Abort()),
        Find(limit=20, no_end=True),
        Answer(0xA700),
    ],
    ids=["A700", "C001", "FE00", "A-ABORT", "no end", "A700 at once"],
)
def test_a_failure_in_mid_stream_is_asked_again_in_parts(pacs: FaultyPeer, act: Any) -> None:
    for study in dated(45):
        pacs.holds(study)
    pacs.on("find", act, times=2)
    with at(pacs, answer_timeout=1) as node:
        found, outcome = listed(node)
        assert len(found) == 45
        assert outcome.count == 45


def test_a_server_that_always_fails_is_an_error(pacs: FaultyPeer) -> None:
    pacs.on("find", Answer(0xC001))
    with at(pacs) as node:
        listing = node.studies(StudyQuery())
        with pytest.raises(AnswerError) as raised:
            list(listing)
        assert raised.value.code == "find-cxxx"
        assert not listing.outcome.complete
    assert pacs.count("find") < 20


def test_a_character_set_that_the_server_will_not_have(pacs: FaultyPeer) -> None:
    """A server that refuses questions in Unicode is asked without naming a character set."""
    pacs.holds(study := make_study(instances=1))
    pacs.on("find", Answer(0xA900), where=lambda request: b"ISO_IR 192" in bytes(request.data))
    with at(pacs) as node:
        assert uids(listed(node)[0]) == {study.study_uid}
        before = pacs.count("find")
        assert uids(listed(node)[0]) == {study.study_uid}
        assert pacs.count("find") == before + 1, "it is remembered"


def test_double_answers_and_other_studies_are_left_out(pacs: FaultyPeer) -> None:
    for study in dated(20):
        pacs.holds(study)
    pacs.on("find", Find(twice=True))
    with at(pacs) as node:
        found, outcome = listed(node)
        assert len(found) == 20
        assert outcome == Listing(20)


def test_a_server_that_does_not_tell_what_is_searched_by(pacs: FaultyPeer) -> None:
    pacs.holds(make_study(instances=1))
    pacs.on("find", Find(without=("StudyDescription",)))
    with at(pacs) as node:
        found, outcome = listed(node, StudyQuery(description="Synthetic*"))
        assert found == []
        assert not outcome.complete
        assert "StudyDescription" in outcome.reason


def test_modalities_are_asked_of_the_series_where_studies_do_not_tell_them(pacs: FaultyPeer) -> None:
    for number, modality in enumerate(("CT", "MR", "CT")):
        pacs.holds(make_study(patient_id=f"P{number}", modality=modality, instances=1))
    pacs.on("find", Find(without=("ModalitiesInStudy",)))
    with at(pacs) as node:
        found, _ = listed(node, StudyQuery(modalities=("CT", "US")))
        assert {s.patient_id for s in found} == {"P0", "P2"}
        assert found[0].modalities == ("CT",)


LIMITED = pytest.mark.parametrize(
    ("act", "code"),
    [
        (Find(limit=100, without=("NumberOfSeriesRelatedInstances",)), "find-incomplete"),
        (Find(limit=0), "gone"),
    ],
)


@LIMITED
def test_a_list_of_images_that_is_cut_off_is_an_error(pacs: FaultyPeer, act: Find, code: str) -> None:
    """By the count of the series; without one, because there are images beyond those that are listed."""
    pacs.holds(study := make_study(instances=140, size_bytes=200))
    pacs.on("find", act)
    with at(pacs) as node, pytest.raises(AnswerError) as raised:
        list(node.instances(StudyInfo(study.study_uid)))
    assert raised.value.code == code


@pytest.mark.parametrize("act", [Find(limit=40), Find(fail_after=40, status=0xFE00)])
def test_a_series_longer_than_the_lists_is_asked_for_by_numbers(pacs: FaultyPeer, act: Find) -> None:
    pacs.holds(study := make_study(instances=140, size_bytes=200))
    pacs.on("find", act, where=lambda r: b"IMAGE" in bytes(r.data), times=1)
    with at(pacs) as node:
        images = [i.sop_uid for page in node.instances(StudyInfo(study.study_uid)) for i in page]
    assert len(images) == 140
    assert set(images) == set(study.sop_uids)


def test_fewer_images_than_the_series_counts_is_an_error(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=60, size_bytes=200))
    pacs.on("find", Find(limit=40), where=lambda r: b"IMAGE" in bytes(r.data), times=1)
    pacs.on("find", Find(limit=0), where=lambda r: b"IMAGE" in bytes(r.data))
    with at(pacs) as node, pytest.raises(AnswerError) as raised:
        list(node.instances(StudyInfo(study.study_uid)))
    assert raised.value.code == "find-incomplete"
    assert "60 images of a series counted, 40 listed" in raised.value.detail


def test_a_hundred_images_without_a_count_are_looked_for_more(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=100, size_bytes=200))
    pacs.on("find", Find(without=("NumberOfSeriesRelatedInstances",)))
    with at(pacs) as node:
        assert sum(len(page) for page in node.instances(StudyInfo(study.study_uid))) == 100


def test_fewer_images_than_the_study_counts_is_an_error(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=5))
    with at(pacs) as node:
        info = node.study(study.study_uid)
        assert info is not None
        assert info.instance_count == 5
        pacs.on("find", Find(limit=3), where=lambda request: b"IMAGE" in bytes(request.data))
        pacs.on("find", Find(without=("NumberOfSeriesRelatedInstances",)), where=lambda r: b"SERIES" in bytes(r.data))
        with pytest.raises(AnswerError) as raised:
            list(node.instances(info))
    assert raised.value.code == "find-incomplete"


def test_a_server_without_images(pacs: FaultyPeer) -> None:
    pacs.holds(study := make_study(instances=5))
    pacs.on("find", Find(limit=0), where=lambda request: b"IMAGE" in bytes(request.data))
    for fields in ({}, {"image_find": False}):
        with at(pacs, **fields) as node, pytest.raises(AnswerError) as raised:
            list(node.instances(StudyInfo(study.study_uid)))
        assert raised.value.code == "find-no-images"
        assert node.failure(raised.value, "source").next_step


def test_other_levels_than_were_asked_for_are_not_taken(pacs: FaultyPeer) -> None:
    """A filter by what the node doesn't tell is refused; guessing would leave images out."""
    pacs.holds(study := make_study(instances=2))
    pacs.on("find", Find(without=("BodyPartExamined",)))
    with at(pacs) as node:
        images = [i for page in node.instances(StudyInfo(study.study_uid)) for i in page]
        with pytest.raises(AnswerError) as raised:
            node.tags(images, frozenset({"BodyPartExamined"}))
    assert raised.value.code == "find-untold"


def test_a_listing_holds_no_association_between_two_studies(pacs: FaultyPeer) -> None:
    """One association is allowed, and a study's images are listed while the studies still come."""
    for study in dated(4):
        pacs.holds(study)
    total = 0
    with at(pacs, connections=1) as node:
        for study in node.studies(StudyQuery()):
            assert node.limit.held == 0
            total += sum(len(page) for page in node.instances(study))
    assert total == 4


def test_no_service_is_told(pacs: FaultyPeer) -> None:
    pacs.refuses = lambda abstract, syntax: True
    with at(pacs) as node:
        node.probe()
        with pytest.raises(FerryError) as raised:
            list(node.studies(StudyQuery()))
    assert raised.value.code == "association-no-service"


def test_who_is_not_known_there_is_told_what_to_ask_for(pacs: FaultyPeer) -> None:
    """As Orthanc by itself: it lets anybody in, and breaks off at the first question of a stranger."""
    pacs.on("find", Abort())
    with at(pacs) as node, pytest.raises(TransportError) as raised:
        list(node.studies(StudyQuery()))
    assert "to enter FERRY" in raised.value.next_step
