"""A DICOMweb service in the window, on Orthanc's plugin: added, its wrong address mended, sent to and fetched from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.model.diagnosis import StepResult
from gui.models.deliveries import method_text
from tests.gui.hands import Hands
from tests.gui.test_nodes_dicom import begin, fill, test_it
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study

test_it.__test__ = False  # type: ignore[attr-defined]  # no test: a step of some
Start = Callable[..., OrthancServer]


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_a_service_is_added_sent_to_and_the_proof_read(empty: Hands, start_orthanc: Start, version: str) -> None:
    """With the address of the server itself at first: the test finds where the services are, and it is taken over."""
    source = start_orthanc("1.12")
    service = start_orthanc(version, dicomweb=True, users={"ferry": "secret"})
    end = start_orthanc("1.12")
    study = make_study(instances=12)
    source.upload(study)
    empty.add_orthanc("CT 2", source.url)
    empty.add_orthanc("Archive", end.url)
    wizard = begin(empty, "dicomweb", "Web archive")
    fill(empty, wizard, {"url": service.url, "username": "ferry", "password": "secret"})
    steps = test_it(empty, wizard)
    assert steps["Is DICOMweb"] is StepResult.FAILED
    empty.wait(lambda: service.dicomweb_url in empty.read(wizard))
    empty.press(wizard, "Take this over")
    empty.wait(lambda: not wizard.test_page.running and "It works" in wizard.test_page.verdict.lead)
    results = {step.name: step.result for step in wizard.test_page.list.steps}
    assert results["Takes images"] is StepResult.OK
    assert {name for name, result in results.items() if result is not StepResult.OK} == {"Gives images"}  # it has none
    empty.save(wizard, "Web archive")
    assert empty.app.nodes.get("Web archive").fields["url"] == service.dicomweb_url
    assert "secret" not in str(empty.app.nodes.get("Web archive").fields)

    empty.finish(empty.start_transfer("CT 2", "Web archive"))
    empty.wait(lambda: empty.states() == ["Confirmed"])
    assert service.digests() == study.digests()
    transfers = empty.window.transfers
    transfers.table.selectRow(0)
    empty.click(transfers.detail.images_tab)
    empty.wait(lambda: transfers.detail.images.rowCount() == 12)
    assert {method_text(r) for r in transfers.detail.images.records} == {"by SOP Instance UID"}

    empty.finish(empty.start_transfer("Web archive", "Archive"))
    empty.wait(lambda: empty.states() == ["Confirmed", "Confirmed"])
    assert end.digests() == study.digests()


def test_a_wrong_password_is_told_from_a_wrong_address(empty: Hands, start_orthanc: Start) -> None:
    service = start_orthanc("1.12", dicomweb=True, users={"ferry": "secret"})
    wizard = begin(empty, "dicomweb", "Web archive")
    fill(empty, wizard, {"url": service.dicomweb_url, "username": "ferry", "password": "wrong"})
    steps = test_it(empty, wizard)
    assert steps["HTTP answers"] is StepResult.OK
    assert steps["Login accepted"] is StepResult.FAILED
    assert steps["Takes images"] is StepResult.SKIPPED
    empty.wait(lambda: "Correct user name, password or API key" in empty.read(wizard))
