"""The source server sends by itself by STOW-RS, and that goes wrong: the destination's own list decides."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.faults.crossing import Crossing, says
from tests.support.orthanc import OrthancServer
from tests.support.studies import Study, make_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
ONE_WAY = pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
BOTH_WAYS = pytest.mark.parametrize("orthanc_pair", ["1.12>1.10", "1.10>1.12"], indirect=True)
PUSH = ("--path", "push")
STOW = "^POST /dicom-web/studies$"


def _know(crossing: Crossing, **more: object) -> None:
    """Let the source know the destination as a DICOMweb server, by the way through the proxy."""
    entry = {"Url": f"{crossing.before_destination.url}/dicom-web", "Timeout": 60, **more}
    crossing.source.put("/dicom-web/servers/there", entry)


def _study(crossing: Crossing) -> Study:
    study = make_study(instances=40, accession="PUSHED", size_bytes=20_000)
    crossing.source.upload(study)
    return study


@BOTH_WAYS
def test_sent_and_proved(crossing: Crossing) -> None:
    study = _study(crossing)
    _know(crossing)
    run = crossing.run(*PUSH).expect(0)
    assert run.finished["verified"] == 50
    assert crossing.destination.digests() == {**crossing.study.digests(), **study.digests()}
    assert crossing.source.count() == 0
    assert set(crossing.destination.received().values()) == {1}
    reasons = {event["path_reason"] for event in run.events if event["event"] == "study" and event["path"] == "push"}
    assert reasons == {"as chosen; from sends to its DICOMweb server “there”, by STOW-RS"}


@ONE_WAY
def test_where_the_program_chooses_it_goes_through_this_computer(crossing: Crossing) -> None:
    """Unless STOW-RS was chosen in the node of that server."""
    study = make_study(instances=6, accession="LARGE", size_bytes=200_000)
    crossing.source.upload(study)
    _know(crossing)
    run = crossing.run(after="keep").expect(0)
    reasons = {event["path_reason"] for event in run.events if event["event"] == "study" and event["path"]}
    said = "faster than its DICOMweb server “there”, by STOW-RS, with proof for every image as it is sent"
    assert reasons == {said}
    with crossing.app() as app:
        app.nodes.edit("from", {"send_by": "stow"}, {})
    more = make_study(instances=6, accession="LARGER", size_bytes=200_000)
    crossing.source.upload(more)
    run = crossing.run("--name", "again", after="keep").expect(0)
    assert run.finished["verified"] == 6
    assert "push" in {event["path"] for event in run.events if event["event"] == "study"}


@ONE_WAY
def test_not_known_there_says_why_it_went_another_way(crossing: Crossing) -> None:
    run = crossing.run(*PUSH).expect(0)
    reasons = {event["path_reason"] for event in run.events if event["event"] == "study" and event["path"] == "relay"}
    assert reasons == {"from does not know to as a peer or a DICOMweb server (Nodes, “Sends to”)"}


@ONE_WAY
def test_a_receiver_that_lies_is_never_believed(crossing: Crossing) -> None:
    """It says that it has stored all of them, and has none."""
    _know(crossing)
    items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in crossing.study.sop_uids]
    body = json.dumps({"00081199": {"vr": "SQ", "Value": items}})
    crossing.before_destination.answer(200, STOW, body=body, content_type="application/dicom+json")
    run = crossing.run(*PUSH, "--max-attempts", "2").expect(1)
    assert (run.finished["verified"], run.finished["failed"]) == (0, 10)
    crossing.nothing_deleted()


@ONE_WAY
def test_a_receiver_that_takes_only_some(crossing: Crossing, start_orthanc: Start) -> None:
    """Whatever the source's job says of it: each image is asked for, and only what is there is deleted."""
    refused = crossing.study.sop_uids[3]
    lua = f'function ReceivedInstanceFilter(dicom) return dicom.SOPInstanceUID ~= "{refused}" end'
    strict = start_orthanc(crossing.destination.version, dicomweb=True, lua=[lua], count_received=False)
    crossing.add("strict", strict.url)
    crossing.source.put("/dicom-web/servers/strict", {"Url": strict.dicomweb_url})
    run = crossing.run(*PUSH, "--max-attempts", "2", to="strict").expect(1)
    assert (run.finished["verified"], run.finished["failed"]) == (9, 1)
    assert list(crossing.source.digests()) == [refused]


@BOTH_WAYS
def test_a_wrong_password_stops_and_says_where_to_correct_it(crossing: Crossing) -> None:
    _know(crossing, Username="ada", Password="wrong")
    crossing.before_destination.answer(401, STOW)
    run = crossing.run(*PUSH).expect(1)
    says(run, "was not let in by the DICOMweb server “there”", "Correct them in the settings of “from”")
    assert "wrong" not in run.stdout + run.stderr
    crossing.nothing_deleted()


@ONE_WAY
def test_cut_off_in_mid_send(crossing: Crossing) -> None:
    study = _study(crossing)
    _know(crossing)
    crossing.before_destination.cut_request(100_000, STOW, times=1)
    run = crossing.run(*PUSH).expect(0)
    assert run.finished["verified"] == 50
    assert crossing.destination.digests() == {**crossing.study.digests(), **study.digests()}


@BOTH_WAYS
def test_cancelled_while_it_sends(crossing: Crossing) -> None:
    """The source's own job is cancelled with it."""
    _know(crossing)
    hung = crossing.before_destination.delay(30, STOW)
    running = crossing.start(*PUSH)
    hung.wait_hit()
    with crossing.app() as app:
        app.jobs.cancel(1)
    hung.off()
    run = running.result(60).expect(1)
    assert run.finished["cancelled"] + run.finished["verified"] == 10

    def states() -> set[str]:
        return {job["State"] for job in crossing.source.get("/jobs?expand")}

    wait_for(lambda: states() <= {"Failure", "Success"}, what="the end of the source's jobs")
    crossing.nothing_lost()
