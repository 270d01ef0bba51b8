"""What real Orthancs hold, asked in bulk: present, absent, other content, never a proxy's word for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from core.model.errors import AnswerError, TransportError
from core.model.study import InstanceRef, Presence, StudyInfo
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, all_studies, orthanc_node, the_study
from tests.support.proxy import FaultProxy
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import Study, make_study

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]


def describe(study: Study, *, digests: bool = True) -> tuple[StudyInfo, list[InstanceRef]]:
    """A study of the test as a source would describe it."""
    patient_id = study.plan.patient_id
    known = study.digests() if digests else {}
    refs = [
        InstanceRef(
            sop_uid,
            study.plan.series_uid(series),
            study.study_uid,
            ref="of-the-source",
            digest=known.get(sop_uid),
            patient_id=patient_id,
        )
        for series, _, sop_uid in study.plan.positions()
    ]
    return StudyInfo(study_uid=study.study_uid, ref="of-the-source", patient_id=patient_id), refs


@pytest.mark.parametrize(("series", "instances"), [(1, 3), (1, 250), (7, 3), (3, 90)])
@pytest.mark.parametrize("digests", [True, False])
def test_what_is_held_comes_with_its_digest_in_the_order_asked(
    orthanc: OrthancServer, series: int, instances: int, digests: bool
) -> None:
    study = make_study(series=series, instances=instances, size_bytes=1_000)
    orthanc.upload(study)
    info, refs = describe(study, digests=digests)
    with orthanc_node(orthanc) as node:
        held = node.confirm(info, refs)
        assert node.gives_digests
        assert node.digests_in_bulk is (orthanc.version == "1.12")
    sizes = dict(zip(study.sop_uids, map(len, study), strict=True))
    assert [h.sop_uid for h in held] == study.sop_uids
    assert all(h.presence is Presence.PRESENT for h in held)
    assert {h.sop_uid: h.digest for h in held} == study.digests()
    assert all(h.size == sizes[h.sop_uid] for h in held)
    if not digests:  # may be needed to tell a re-encoded copy
        assert {h.transfer_syntax for h in held} == {"1.2.840.10008.1.2.1"}


def test_what_is_missing_is_absent(orthanc: OrthancServer) -> None:
    study = make_study(series=2, instances=70, size_bytes=1_000)
    kept = [n for n in range(140) if n % 3]
    orthanc.upload([study[n] for n in kept])
    info, refs = describe(study)
    with orthanc_node(orthanc) as node:
        held = node.confirm(info, refs)
        stranger = make_study(patient_id="STRANGER", instances=30)
        nothing = node.confirm(*describe(stranger))
    assert [n for n, h in enumerate(held) if h.presence is Presence.PRESENT] == kept
    assert {h.presence for h in held} == {Presence.PRESENT, Presence.ABSENT}
    assert {h.presence for h in nothing} == {Presence.ABSENT}


def test_an_empty_question_has_an_empty_answer(orthanc: OrthancServer) -> None:
    info, _ = describe(make_study(instances=1))
    with orthanc_node(orthanc) as node:
        assert node.confirm(info, []) == []
        assert node.keeps_digests
        assert node.gives_digests


def test_the_cost_does_not_depend_on_the_size_of_the_study(orthanc: OrthancServer, fault_proxy: Before) -> None:
    study = make_study(instances=900, size_bytes=1_000)
    orthanc.upload(study)
    info, refs = describe(study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        node.probe()
        proxy.forget()
        assert len(node.confirm(info, refs[100:160])) == 60
    assert proxy.bytes_out < 60 * 4 * 1_000
    if orthanc.version == "1.12":
        assert proxy.count() <= 3


def test_other_content_under_the_same_uid_is_told(orthanc: OrthancServer) -> None:
    study = make_study(instances=30)
    info, refs = describe(study)
    orthanc.upload([*study[:10], study[10][:-1] + b"\x55", *study[11:]])
    with orthanc_node(orthanc) as node:
        held = node.confirm(info, refs)
    other = [h for h, one in zip(held, refs, strict=True) if h.digest != one.digest]
    assert [h.sop_uid for h in other] == [refs[10].sop_uid]
    assert other[0].transfer_syntax == "1.2.840.10008.1.2.1"
    assert other[0].ref == orthanc.post("/tools/lookup", refs[10].sop_uid.encode())[0]["ID"]


@pytest.mark.parametrize("count", [2, 40])
def test_the_same_uids_under_another_patient_are_found(orthanc: OrthancServer, count: int) -> None:
    study = make_study(instances=count, patient_id="NEW")
    orthanc.upload(make_study(instances=count, patient_id="NEW"))
    info, refs = describe(study)
    other = [replace(one, patient_id="OLD") for one in refs]
    with orthanc_node(orthanc) as node:
        held = node.confirm(replace(info, patient_id="OLD"), other)
        unknown = node.confirm(replace(info, patient_id=""), [replace(one, patient_id="") for one in refs])
    for answer in (held, unknown):
        assert [h.presence for h in answer] == [Presence.PRESENT] * count
        assert {h.sop_uid: h.digest for h in answer} == study.digests()


def test_patient_ids_of_all_kinds(orthanc: OrthancServer) -> None:
    for patient_id, characters in (
        ("A B", "ISO_IR 192"),
        ("Müller-7", "ISO_IR 192"),
        ("Müller-8", "ISO_IR 100"),
        ("0012 ", "ISO_IR 192"),
        (" 7", "ISO_IR 192"),
        ("%_*?", "ISO_IR 192"),
    ):
        study = make_study(instances=25, patient_id=patient_id, size_bytes=1_000, character_set=characters)
        orthanc.upload(study)
        with orthanc_node(orthanc) as node:
            found = all_instances(node, the_study(node, study.study_uid))
            assert len(found) == 25
            held = node.confirm(describe(study)[0], [replace(one, digest=None, ref="") for one in found])
        assert {h.sop_uid: h.digest for h in held} == study.digests(), patient_id


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_limits_of_the_server_make_nothing_absent(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"LimitFindResults": 3, "LimitFindInstances": 7})
    study = make_study(series=2, instances=60, size_bytes=1_000)
    server.upload(study)
    with orthanc_node(server) as node:
        held = node.confirm(*describe(study))
    assert {h.sop_uid: h.digest for h in held} == study.digests()


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_server_without_digests_still_lists(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"StoreMD5ForAttachments": False})
    study = make_study(instances=30)
    server.upload(study[:20])
    with orthanc_node(server) as node:
        assert not node.keeps_digests
    with orthanc_node(server) as node:
        held = node.confirm(*describe(study))
        assert not node.gives_digests
        assert not node.keeps_digests
        assert node.source_digests(all_instances(node, the_study(node, study.study_uid))) == {}
    assert [h.presence for h in held] == [Presence.PRESENT] * 20 + [Presence.ABSENT] * 10
    assert {h.digest for h in held} == {None}
    assert {h.transfer_syntax for h in held[:20]} == {"1.2.840.10008.1.2.1"}


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_compressed_disk_does_not_change_the_digest(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"StorageCompression": True})
    study = make_study(instances=25, size_bytes=20_000)
    server.upload(study)
    with orthanc_node(server) as node:
        held = node.confirm(*describe(study))
    assert {h.sop_uid: h.digest for h in held} == study.digests()
    assert {h.size for h in held} == {len(instance) for instance in study}


def test_a_re_encoded_copy_has_the_same_attributes(start_orthanc: Start) -> None:
    server = start_orthanc("1.12", config={"IngestTranscoding": "1.2.840.10008.1.2"})
    study = make_study(instances=3)
    server.upload(study)
    info, refs = describe(study)
    plain = start_orthanc("1.10")
    plain.upload(study)
    with orthanc_node(server) as node, orthanc_node(plain) as source:
        held = node.confirm(info, refs)
        assert all(h.presence is Presence.PRESENT and h.digest != one.digest for h, one in zip(held, refs, strict=True))
        assert {h.transfer_syntax for h in held} == {"1.2.840.10008.1.2"}
        for one in refs:
            ours, theirs = source.attributes(info, one), node.attributes(info, one)
            assert ours == theirs
            assert ours is not None
            assert ours["0010,0020"] == "FERRY-1"
            assert not any(tag.startswith(("0002", "7fe0")) for tag in ours)
        assert node.attributes(info, replace(refs[0], sop_uid="1.2.3")) is None


def test_another_attribute_is_seen(orthanc: OrthancServer) -> None:
    study = make_study(instances=1, ImageComments="one")
    info, refs = describe(study)
    with orthanc_node(orthanc) as node:
        orthanc.upload(study)
        first = node.attributes(info, refs[0])
        orthanc.delete(f"/studies/{orthanc.get('/studies')[0]}")
        orthanc.upload(make_study(instances=1, ImageComments="two"))
        second = node.attributes(info, refs[0])
    assert first != second


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, "", "text/plain"),
        (404, "<html>nothing</html>", "text/html"),
        (404, '{"detail": "Not Found"}', "application/json"),
        (200, "<html>please log in</html>", "text/html"),
        (200, "", "application/json"),
        (200, "{}", "application/json"),
        (200, "null", "application/json"),
        (502, "", "text/plain"),
        (503, "", "text/plain"),
        (401, "", "text/plain"),
    ],
)
@pytest.mark.parametrize("what", ["", r"POST /tools/", r"GET /instances/"])
def test_a_proxy_never_makes_anything_absent(
    orthanc: OrthancServer, fault_proxy: Before, status: int, body: str, kind: str, what: str
) -> None:
    study = make_study(instances=25)
    orthanc.upload(study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        node.probe()
        proxy.answer(status, what, body=body, content_type=kind)
        try:
            held = node.confirm(*describe(study))
        except (AnswerError, TransportError) as error:
            assert error.code != "gone"  # noqa: PT017
        else:
            assert all(h.presence is Presence.PRESENT for h in held)  # the question was not needed


def test_an_orthanc_at_another_path_makes_nothing_absent(orthanc: OrthancServer) -> None:
    study = make_study(instances=25)
    orthanc.upload(study)
    with orthanc_node(f"{orthanc.url}/wrong") as node, pytest.raises(AnswerError) as raised:
        node.confirm(*describe(study))
    assert raised.value.code == "not-found"


def test_a_server_that_describes_no_errors(start_orthanc: Start) -> None:
    server = start_orthanc("1.10", config={"HttpDescribeErrors": False})
    study = make_study(instances=25)
    server.upload(study[:20])
    with orthanc_node(server) as node:
        held = node.confirm(*describe(study))
        info = the_study(node, study.study_uid)
        (first, *_) = all_instances(node, info)
        server.delete(f"/instances/{first.ref}")
        with pytest.raises(AnswerError) as raised, node.open(first):
            pass
    assert [h.presence for h in held] == [Presence.PRESENT] * 20 + [Presence.ABSENT] * 5
    assert raised.value.code == "gone"


def test_another_version_after_a_restart_is_noticed(start_orthanc: Start) -> None:
    old, new = start_orthanc("1.10"), start_orthanc("1.12")
    study = make_study(instances=5)
    new.upload(study)
    with orthanc_node(old) as node:
        assert node.rest.capabilities().version.startswith("1.10")
        assert not node.has_labels
        old.stop()
        with pytest.raises(TransportError):
            node.confirm(*describe(study))
        new.stop()
        new.http_port = old.http_port
        new.start()
        held = node.confirm(*describe(study))
        assert node.rest.capabilities().version.startswith("1.12")
        assert node.has_labels
    assert {h.sop_uid: h.digest for h in held} == study.digests()


def make_old(proxy: FaultProxy) -> None:
    """Let a server behind a proxy look like an Orthanc of 2019: what came later is unknown there."""
    system = {"ApiVersion": 4, "DatabaseVersion": 6, "DicomAet": "OLD", "Name": "Old", "Version": "1.5.7"}
    proxy.answer(200, r"GET /system$", body=json.dumps(system), content_type="application/json")
    for method, what, uri in (("POST", r"POST /tools/bulk-content", "/tools/bulk-content"), ("GET", r"/info$", "")):
        unknown = {"HttpStatus": 404, "OrthancStatus": 17, "Message": "Unknown resource", "Method": method, "Uri": uri}
        proxy.answer(404, what, body=json.dumps(unknown))


@pytest.mark.parametrize("keeps", [True, False])
def test_an_orthanc_of_1_5_is_asked_in_its_own_way(start_orthanc: Start, fault_proxy: Before, keeps: bool) -> None:
    server = start_orthanc("1.10", config={"StoreMD5ForAttachments": keeps})
    study = make_study(series=2, instances=30, size_bytes=1_000)
    server.upload(study[:50])
    proxy = fault_proxy(server)
    make_old(proxy)
    info, refs = describe(study)
    with orthanc_node(proxy) as node:
        assert node.rest.capabilities().version == "1.5.7"
        (listed,) = all_studies(node)
        assert (listed.instance_count, listed.modalities) == (50, ("CT",))
        found = all_instances(node, listed)
        held = node.confirm(info, refs)
        digests = node.source_digests(found)
    assert sorted(one.sop_uid for one in found) == sorted(study.sop_uids[:50])
    assert [h.presence for h in held] == [Presence.PRESENT] * 50 + [Presence.ABSENT] * 10
    expected = dict(list(study.digests().items())[:50])
    assert digests == (expected if keeps else {})
    assert {h.sop_uid: h.digest for h in held[:50]} == (expected if keeps else dict.fromkeys(expected))
    assert proxy.count(r"/info$|bulk-content") == 0
