"""The Orthanc node lists what real servers of two versions hold: whole, whatever their limits, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.model.errors import AnswerError, TransportError
from core.model.study import StudyQuery
from core.nodes.orthanc import inventory
from core.nodes.orthanc import studies as studies_module
from core.nodes.orthanc.identifiers import IdentifierList
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, all_studies, orthanc_node, the_study
from tests.support.proxy import FaultProxy
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import NAMES, make_studies, make_study

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]


def upload(server: OrthancServer, *studies: list[bytes]) -> None:
    server.upload([instance for study in studies for instance in study])


def test_studies_are_described(orthanc: OrthancServer) -> None:
    study = make_study(
        patient="Müller^Zoë", patient_id="P 1", series=3, instances=4, PatientSex="F", PatientBirthDate="19700102"
    )
    upload(orthanc, study)
    with orthanc_node(orthanc) as node:
        (found,) = all_studies(node)
    assert found.study_uid == study.study_uid
    assert found.patient_name == "Müller^Zoë"
    assert (found.patient_id, found.sex, found.birth_date) == ("P 1", "F", "19700102")
    assert (found.study_date, found.accession, found.description) == ("20240315", "A0001", "Synthetic study")
    assert found.modalities == ("CT",)
    assert found.instance_count == 12
    tags = dict(found.tags)
    assert tags["PatientName"] == "Müller^Zoë"
    assert tags["StudyInstanceUID"] == study.study_uid
    assert tags["ModalitiesInStudy"] == "CT"


@pytest.mark.parametrize("character_set", sorted(NAMES))
def test_names_of_the_world(orthanc_112: OrthancServer, character_set: str) -> None:
    study = make_study(character_set=character_set)
    upload(orthanc_112, study)
    with orthanc_node(orthanc_112) as node:
        (found,) = all_studies(node)
    assert found.patient_name == study.plan.patient.rstrip("=")


def test_queries_mean_the_same_on_every_version(orthanc: OrthancServer) -> None:
    studies = [
        make_study(patient="Ferry^Ada", patient_id="A1", study_date="20230101", accession="X1", description="Head"),
        make_study(patient="Ferry^Zoë", patient_id="A2", study_date="20230615", accession="X2", modality="MR"),
        make_study(
            patient="Lovelace^Ada", patient_id="a1b", study_date="20240101", accession="X3", description="Chest"
        ),
    ]
    upload(orthanc, *studies)
    uids = [study.study_uid for study in studies]
    questions = {
        StudyQuery(): [0, 1, 2],
        StudyQuery(patient_id="A1"): [0],
        StudyQuery(patient_id="nobody"): [],
        StudyQuery(patient_name="ferry*"): [0, 1],
        StudyQuery(patient_name="*^ada"): [0, 2],
        StudyQuery(patient_name="Ferry^Zo?"): [1],
        StudyQuery(accession="X3"): [2],
        StudyQuery(date_from="20230615"): [1, 2],
        StudyQuery(date_to="20230615"): [0, 1],
        StudyQuery(date_from="20230601", date_to="20230630"): [1],
        StudyQuery(modalities=("MR",)): [1],
        StudyQuery(modalities=("MR", "CT")): [0, 1, 2],
        StudyQuery(description="*es*"): [2],
        StudyQuery(study_uids=(uids[2], uids[0])): [0, 2],
        StudyQuery(study_uids=("1.2.3",)): [],
        StudyQuery(study_uids=tuple(uids[1:]) + tuple(f"1.2.3.{n}" for n in range(80))): [1, 2],
        StudyQuery(patient_name="Ferry*", modalities=("CT",), date_to="20231231"): [0],
    }
    with orthanc_node(orthanc) as node:
        for query, expected in questions.items():
            assert {s.study_uid for s in all_studies(node, query)} == {uids[n] for n in expected}, query


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_limits_of_the_server_hide_nothing(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"LimitFindResults": 2, "LimitFindInstances": 3})
    studies = make_studies(9, instances=4, series=3, size_bytes=1_400)
    upload(server, *studies)
    with orthanc_node(server) as node:
        assert {s.study_uid for s in all_studies(node)} == {s.study_uid for s in studies}
        named = all_studies(node, StudyQuery(patient_name="*"))
        assert {s.study_uid for s in named} == {s.study_uid for s in studies}
        assert all(s.instance_count == 12 and s.modalities == ("CT",) for s in named)
        for study in studies:
            found = all_instances(node, the_study(node, study.study_uid))
            assert sorted(one.sop_uid for one in found) == sorted(study.sop_uids)


def test_studies_deleted_while_iterating_make_it_skip_none(
    orthanc: OrthancServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies_module, "STUDY_PAGE", 4)
    studies = make_studies(20, instances=1, size_bytes=1_400)
    upload(orthanc, *studies)
    seen = []
    with orthanc_node(orthanc) as node:
        listing = node.studies(StudyQuery())
        for study in listing:
            seen.append(study.study_uid)
            orthanc.delete(f"/studies/{study.ref}")
        assert listing.outcome.complete
    assert sorted(seen) == sorted(s.study_uid for s in studies)


def test_a_study_deleted_before_its_page_is_left_out(orthanc: OrthancServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies_module, "STUDY_PAGE", 2)
    studies = make_studies(6, instances=1, size_bytes=1_400)
    upload(orthanc, *studies)
    with orthanc_node(orthanc) as node:
        iterator = iter(node.studies(StudyQuery()))
        first = next(iterator)
        victims = [ref for ref in orthanc.get("/studies") if ref != first.ref]
        for ref in victims:
            orthanc.delete(f"/studies/{ref}")
        rest = list(iterator)
    assert len(rest) <= 1  # of the page that was read before
    assert not any(s.ref == first.ref for s in rest)


def test_a_listing_left_early_does_not_vouch(orthanc: OrthancServer) -> None:
    upload(orthanc, *make_studies(3, instances=1))
    with orthanc_node(orthanc) as node:
        listing = node.studies(StudyQuery())
        next(iter(listing))
        assert not listing.outcome.complete
        assert listing.outcome.reason


def test_a_list_that_is_short_of_the_servers_own_count_does_not_vouch(
    orthanc: OrthancServer, fault_proxy: Before
) -> None:
    upload(orthanc, *make_studies(2, instances=1))
    proxy = fault_proxy(orthanc)
    proxy.answer(200, r"GET /statistics", body='{"CountStudies": 7}', content_type="application/json")
    with orthanc_node(proxy) as node:
        listing = node.studies(StudyQuery())
        assert len(list(listing)) == 2
        assert not listing.outcome.complete
        assert "7 studies" in listing.outcome.reason


def test_instances_are_all_there_with_what_comes_for_free(orthanc: OrthancServer) -> None:
    study = make_study(series=3, instances=30, size_bytes=1_400)
    upload(orthanc, study)
    bulk = orthanc.version == "1.12"
    with orthanc_node(orthanc) as node:
        info = the_study(node, study.study_uid)
        found = all_instances(node, info)
        digests = node.source_digests(found)
    assert sorted(one.sop_uid for one in found) == sorted(study.sop_uids)
    assert len({one.ref for one in found}) == 90
    sizes = dict(zip(study.sop_uids, map(len, study), strict=True))
    for one in found:
        assert one.size == sizes[one.sop_uid]
        assert one.transfer_syntax == "1.2.840.10008.1.2.1"
        assert one.sop_class == "1.2.840.10008.5.1.4.1.1.2"
        assert one.study_uid == study.study_uid
        assert one.patient_id == "FERRY-1"
        assert one.series is not None
        assert one.series.series_uid == one.series_uid
        assert one.series.instance_count == 30
        assert (one.digest == study.digests()[one.sop_uid]) if bulk else one.digest is None
    assert digests == study.digests()


def test_one_series_of_a_study(orthanc: OrthancServer) -> None:
    study = make_study(series=3, instances=5)
    upload(orthanc, study)
    with orthanc_node(orthanc) as node:
        info = the_study(node, study.study_uid)
        series = {one.series for one in all_instances(node, info)}
        chosen = next(s for s in series if s is not None)
        found = all_instances(node, info, series_ref=chosen.ref)
    assert len(found) == 5
    assert {one.series_uid for one in found} == {chosen.series_uid}


@pytest.mark.parametrize(("series", "instances"), [(1, 1_300), (2, 510)])
def test_a_long_series_comes_in_pages(orthanc: OrthancServer, series: int, instances: int) -> None:
    study = make_study(series=series, instances=instances, size_bytes=1_000)
    upload(orthanc, study)
    with orthanc_node(orthanc) as node:
        pages = list(node.instances(the_study(node, study.study_uid)))
        listed = node.rest.get_identifiers("/instances")
    assert max(map(len, pages)) <= inventory.FIND_PAGE
    assert isinstance(listed, IdentifierList), "as this server writes it"
    assert sorted(listed) == sorted(one.ref for page in pages for one in page)
    assert sorted(one.sop_uid for page in pages for one in page) == sorted(study.sop_uids)


def test_instances_deleted_while_paging_lose_no_other(orthanc: OrthancServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "FIND_PAGE", 10)
    monkeypatch.setattr(inventory, "INSTANCE_PAGE", 10)
    study = make_study(instances=60, size_bytes=1_000)
    upload(orthanc, study)
    with orthanc_node(orthanc) as node:
        pages = node.instances(the_study(node, study.study_uid))
        seen = {one.sop_uid for one in next(iter(pages))}
        gone = set()
        for one in study.sop_uids:
            if one not in seen and len(gone) < 5:
                orthanc.delete(f"/instances/{orthanc.post('/tools/lookup', one.encode())[0]['ID']}")
                gone.add(one)
        for uid in list(seen)[:5]:  # and of those already given, which shifts the pages
            orthanc.delete(f"/instances/{orthanc.post('/tools/lookup', uid.encode())[0]['ID']}")
        rest = [one.sop_uid for page in pages for one in page]
    assert len(rest) == len(set(rest))
    assert seen | set(rest) | gone == set(study.sop_uids)
    assert not set(rest) & gone


def test_a_study_that_is_gone_raises(orthanc: OrthancServer) -> None:
    study = make_study(instances=2)
    upload(orthanc, study)
    with orthanc_node(orthanc) as node:
        info = the_study(node, study.study_uid)
        orthanc.delete(f"/studies/{info.ref}")
        with pytest.raises(AnswerError) as raised:
            all_instances(node, info)
        assert raised.value.code == "gone"
        assert node.study(study.study_uid) is None
        assert node.study(info.ref) is None


@pytest.mark.parametrize("status", [404, 502, 503])
@pytest.mark.parametrize("what", [r"GET /series/", r"POST /tools/", r"GET /studies", r"GET /instances/"])
def test_trouble_in_mid_list_is_never_a_shorter_list(
    orthanc: OrthancServer, fault_proxy: Before, status: int, what: str
) -> None:
    study = make_study(series=3, instances=20)
    upload(orthanc, study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        info = the_study(node, study.study_uid)
        proxy.answer(status, what, body="<html>no</html>", content_type="text/html")
        try:
            found = [one.sop_uid for one in all_instances(node, info)]
        except (AnswerError, TransportError) as error:
            assert getattr(error, "code", "") != "gone"  # noqa: PT017
        else:
            assert sorted(found) == sorted(study.sop_uids)  # the question was not needed


@pytest.mark.parametrize("what", [r"GET /series/", r"POST /tools/find", r"GET /studies"])
def test_a_login_page_in_mid_list_is_no_list(orthanc_112: OrthancServer, fault_proxy: Before, what: str) -> None:
    study = make_study(series=2, instances=5)
    upload(orthanc_112, study)
    proxy = fault_proxy(orthanc_112)
    with orthanc_node(proxy) as node:
        info = the_study(node, study.study_uid)
        proxy.answer_html(what)
        try:
            found = [one.sop_uid for one in all_instances(node, info)]
        except AnswerError as error:
            assert error.code == "not-the-server"  # noqa: PT017
        else:
            assert sorted(found) == sorted(study.sop_uids)


def test_tags_below_the_study(orthanc: OrthancServer) -> None:
    study = make_study(instances=3, BodyPartExamined="CHEST")
    upload(orthanc, study)
    with orthanc_node(orthanc) as node:
        found = all_instances(node, the_study(node, study.study_uid))
        tags = node.tags(found, frozenset({"BodyPartExamined", "SOPInstanceUID", "Rows"}))
    assert [t["SOPInstanceUID"] for t in tags] == [one.sop_uid for one in found]
    assert all(t["BodyPartExamined"] == "CHEST" and t["Rows"].isdigit() for t in tags)
