"""DICOM nodes and this computer in the window: added by the wizard, tested against real servers, counted."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit

from core.engine import listening
from core.model.diagnosis import DiagnosisStep, Profile, StepResult
from core.model.events import NodeChanged, NodeHealth
from core.model.node import NodeRecord
from gui.models.nodes import NodeLine
from gui.widgets.rows import RowsEditor
from gui.wizards.add_node import AddNode
from tests.gui.hands import Hands
from tests.real.test_orthanc_node_diagnosis import make_certificate
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import free_port, required_program
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE

Start = Callable[..., OrthancServer]


@pytest.fixture
def landing_port() -> int:
    return free_port()


@pytest.fixture
def pacs(tmp_path: Path, landing_port: int) -> Iterator[QueryRetrieveServer]:
    with QueryRetrieveServer(tmp_path / "pacs", hosts={"DICOMFERRY": landing_port}, aet="PACS_WEST") as server:
        yield server


def send(study: Study, folder: Path, aet: str, port: int, *, calling: str = "DCMSEND") -> None:
    files = map(str, study.write(folder))
    command = [required_program("dcmsend"), "-aet", calling, "-aec", aet, "127.0.0.1", str(port), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def begin(hands: Hands, kind: str, name: str) -> AddNode:
    """The wizard with its fields before one."""
    wizard = hands.window.nodes.open_wizard()
    hands.click(wizard.kind_page.choices[kind])
    hands.click(wizard.next)
    hands.type(wizard.fields_page.name, name)
    return wizard


def fill(hands: Hands, wizard: AddNode, fields: Mapping[str, str]) -> None:
    form = wizard.fields_page.form
    assert form is not None
    for name, text in fields.items():
        edit = form.editors[name].main
        assert isinstance(edit, QLineEdit), name
        edit.clear()
        hands.type(edit, text)


def test_it(hands: Hands, wizard: AddNode) -> dict[str, StepResult]:
    """Go on to the test, and read how each step ended."""
    hands.click(wizard.next)
    hands.wait(lambda: wizard.page is wizard.test_page and not wizard.test_page.running)
    return {step.name: step.result for step in wizard.test_page.list.steps}


test_it.__test__ = False  # type: ignore[attr-defined]  # no test: a step of some


def add(hands: Hands, kind: str, name: str, fields: Mapping[str, str]) -> AddNode:
    wizard = begin(hands, kind, name)
    fill(hands, wizard, fields)
    test_it(hands, wizard)
    hands.save(wizard, name)
    hands.wait(lambda: name not in hands.window.nodes._testing)
    return wizard


def choose(hands: Hands, name: str) -> None:
    at = hands.window.nodes.model.row_of(name)
    assert at is not None
    hands.window.nodes.table.selectRow(at)
    hands.wait(lambda: hands.window.nodes.heading.text() == name)


def test_a_pacs_is_added_its_checklist_read_and_what_it_takes_searched(
    empty: Hands, pacs: QueryRetrieveServer, landing_port: int, tmp_path: Path
) -> None:
    send(make_study(instances=3), tmp_path / "images", "PACS_WEST", pacs.port)
    empty.go("nodes")
    add(empty, "this-computer", "Here", {"port": str(landing_port)})
    nodes = empty.window.nodes
    empty.wait(lambda: nodes.model.records[0].verdict[0] == "Listening")
    wizard = begin(empty, "dicom", "PACS West")
    fill(empty, wizard, {"aet": "PACS_WEST", "host": "127.0.0.1", "port": str(pacs.port)})
    steps = test_it(empty, wizard)
    assert "It works" in wizard.test_page.verdict.lead
    ways = ("Name found", "Port answers", "Association accepted", "Answers the echo", "Lists studies")
    abilities = ("Lists images", "Gives images by C-GET", "Sends images here", "Storage commitment", "Images it takes")
    assert {steps[name] for name in (*ways, *abilities)} == {StepResult.OK}
    assert "Images it takes: " in empty.read(wizard)
    empty.save(wizard, "PACS West")
    empty.wait(lambda: "PACS West" not in nodes._testing)
    choose(empty, "PACS West")
    empty.wait(lambda: nodes.tabs.isVisible() and "Checked" in nodes.foot.text())
    empty.click(nodes.images_tab)
    empty.wait(lambda: nodes.images.table is not None and nodes.images.rows.rowCount() > 100)
    shown = nodes.images.rows.rowCount()
    assert nodes.images.rows.index(0, 0).data() == "CT Image", "what is usual stands first"
    assert nodes.images.rows.index(0, 1).data() == "all", "uncompressed"
    empty.type(nodes.images.search, "ultrasound multi")
    assert 0 < nodes.images.rows.rowCount() < 5
    nodes.images.search.clear()
    nodes.images.refused.setChecked(True)
    assert nodes.images.rows.rowCount() > shown
    empty.click(nodes.images.copy)
    assert "CT Image" in QGuiApplication.clipboard().text()


def test_a_wrong_ae_title_is_a_sentence_with_what_to_tell_the_administrator(
    empty: Hands, pacs: QueryRetrieveServer
) -> None:
    wizard = begin(empty, "dicom", "PACS")
    fill(empty, wizard, {"aet": "PACS_WESTEN", "host": "127.0.0.1", "port": str(pacs.port)})
    steps = test_it(empty, wizard)
    assert steps["Association accepted"] is StepResult.FAILED
    assert steps["Lists studies"] is StepResult.SKIPPED
    empty.wait(lambda: "What listens there is not called “PACS_WESTEN”." in empty.read(wizard))
    assert empty.read(wizard).count("not tried, because “Association accepted” failed") == 1
    line = next(x for x in wizard.test_page.list.lines if x.step.result is StepResult.FAILED)
    assert line.copy is not None
    empty.click(line.copy)
    told = QGuiApplication.clipboard().text()
    assert "Which AE title does it have?" in told
    assert "AE title: DICOMFERRY" in told
    empty.click(wizard.back)
    fill(empty, wizard, {"aet": "PACS_WEST"})
    test_it(empty, wizard)
    assert "It works" in wizard.test_page.verdict.lead
    wizard.reject()


def test_this_computer_receives_counts_and_tells_whom_it_turned_away(
    empty: Hands, landing_port: int, tmp_path: Path
) -> None:
    hands, nodes = empty, empty.window.nodes
    hands.go("nodes")
    wizard = begin(hands, "this-computer", "Inbox")
    assert "Closed: no device may call yet." in hands.read(wizard)
    fill(hands, wizard, {"aet": "WARD7", "port": str(landing_port)})
    form = wizard.fields_page.form
    assert form is not None
    rows = form.editors["callers"].main
    assert isinstance(rows, RowsEditor)
    hands.click(rows.add)
    hands.type(rows.lines[0].parts[0], "MODALITY1")
    hands.click(wizard.next)
    assert wizard.page is wizard.fields_page, "an address is missing"
    assert "“MODALITY1@” is no caller" in form.editors["callers"].problem.text()
    hands.type(rows.lines[0].parts[1], "127.0.0.1")
    test_it(hands, wizard)
    hands.save(wizard, "Inbox")
    assert hands.app.nodes.get("Inbox").fields["callers"] == ["MODALITY1@127.0.0.1"]
    hands.wait(lambda: nodes.model.records[0].verdict[0] == "Listening")
    hands.wait(lambda: "receives images as WARD7 on port" in hands.window.rail.receiving.text())
    send(make_study(instances=4), tmp_path / "images", "WARD7", landing_port, calling="MODALITY1")
    hands.wait(lambda: "1 study with 4 images" in hands.read(nodes.standing))
    with pytest.raises(AssertionError, match="Association Rejected"):
        send(make_study(instances=1), tmp_path / "more", "WARD7", landing_port, calling="STRANGER")
    hands.wait(lambda: "STRANGER@127.0.0.1" in hands.read(nodes.standing))
    assert "it is not among those who may call" in hands.read(nodes.standing)
    hands.click(nodes.standing.copy)
    assert "AE title: WARD7" in QGuiApplication.clipboard().text()
    assert f"Port: {landing_port}" in QGuiApplication.clipboard().text()


def test_a_taken_port_is_told_with_the_next_step_and_mends_itself(
    empty: Hands, landing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.3)
    hands, nodes = empty, empty.window.nodes
    hands.go("nodes")
    with socket.socket() as other:
        other.bind(("0.0.0.0", landing_port))
        other.listen()
        hands.app.nodes.add("this-computer", "Inbox", {"port": landing_port}, {})
        hands.session.nodes_edited.emit()
        hands.wait(lambda: [n.verdict[0] for n in nodes.model.records] == ["Not listening"])
        hands.wait(lambda: str(landing_port) in nodes.trouble.lead and bool(nodes.trouble.rest))
        assert "can't receive images" in hands.window.rail.receiving.text()
    hands.wait(lambda: [n.verdict[0] for n in nodes.model.records] == ["Listening"])
    hands.wait(lambda: nodes.trouble.isHidden())


def test_through_an_orthanc_its_modalities_are_offered_and_what_is_not_used_says_so(
    empty: Hands, pacs: QueryRetrieveServer, start_orthanc: Start
) -> None:
    server = start_orthanc("1.12")
    server.put("/modalities/west", {"AET": "PACS_WEST", "Host": "127.0.0.1", "Port": pacs.port})
    empty.add_orthanc("Between", server.url)
    folder = empty.app.home.folder / "inbox"
    folder.mkdir()
    empty.app.nodes.add("folder", "Inbox", {"path": str(folder)}, {})
    wizard = begin(empty, "dicom", "PACS")
    form = wizard.fields_page.form
    assert form is not None
    through, known = form.editors["through"].main, form.editors["known_as"].main
    assert isinstance(through, QComboBox)
    assert isinstance(known, QComboBox)
    assert form.editors["known_as"].isHidden()
    empty.wait(lambda: through.count() == 2)
    assert [through.itemText(at) for at in range(2)] == ["Nothing between, directly", "Between"], "no folder"
    through.setCurrentIndex(1)
    assert form.editors["known_as"].isVisible()
    ours, tls = form.editors["calling_aet"], form.editors["tls"]
    assert not ours.main.isEnabled()
    assert ours.help.text() == "Not used: “Reached through” is set."
    assert isinstance(tls.main, QCheckBox)
    assert not tls.main.isEnabled()
    empty.wait(lambda: known.count() == 1)
    assert f"PACS_WEST@127.0.0.1:{pacs.port}" in known.itemText(0)
    known.setCurrentIndex(0)
    known.activated.emit(0)
    assert form.values()["aet"] == "PACS_WEST"
    assert form.values()["known_as"] == "west"
    steps = test_it(empty, wizard)
    assert steps["Known there"] is StepResult.OK
    assert steps["Lists studies"] is StepResult.OK
    empty.save(wizard, "PACS")
    assert empty.app.nodes.get("PACS").fields["through"] == "Between"
    again = empty.window.nodes.open_wizard(empty.app.nodes.get("PACS"))
    empty.wait(lambda: again.draft().fields["through"] == "Between")
    assert again.draft().fields["known_as"] == "west"
    again.reject()


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[OrthancServer, Path]]:
    """An Orthanc that speaks DICOM over TLS only, and the certificate by which it lets in."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder, name in ((theirs, "pacs.lan"), (ours, "ferry.lan")):
        folder.mkdir()
        make_certificate(folder, name)
    with OrthancServer("1.12", name="SECURE", config={"DicomAlwaysAllowFind": True}) as server:
        own = server.folder
        assert own is not None
        for name in ("cert.pem", "key.pem"):
            (own / name).write_bytes((theirs / name).read_bytes())
        (own / "trusted.pem").write_bytes((ours / "cert.pem").read_bytes())
        server.restart(
            DicomTlsEnabled=True,
            DicomTlsCertificate=str(own / "cert.pem"),
            DicomTlsPrivateKey=str(own / "key.pem"),
            DicomTlsTrustedCertificates=str(own / "trusted.pem"),
        )
        yield server, ours / "both.pem"


def test_certificates_appear_with_tls_and_one_can_be_trusted(empty: Hands, secured: tuple[OrthancServer, Path]) -> None:
    server, ours = secured
    wizard = begin(empty, "dicom", "PACS")
    form = wizard.fields_page.form
    assert form is not None
    assert form.editors["pinned_certificate"].isHidden()
    fill(empty, wizard, {"aet": "SECURE", "host": "127.0.0.1", "port": str(server.dicom_port)})
    tls = form.editors["tls"].main
    assert isinstance(tls, QCheckBox)
    tls.setChecked(True)
    assert form.editors["pinned_certificate"].isVisible()
    assert form.editors["client_key"].isHidden(), "a key goes with a certificate"
    fill(empty, wizard, {"client_cert": str(ours)})
    assert form.editors["client_key"].isVisible()
    assert test_it(empty, wizard)["Certificate trusted"] is StepResult.FAILED
    empty.press(wizard, "Trust this certificate for this node")
    empty.wait(lambda: not wizard.test_page.running and "It works" in wizard.test_page.verdict.lead)
    empty.save(wizard, "PACS")
    assert len(str(empty.app.nodes.get("PACS").fields["pinned_certificate"])) >= 64
    empty.wait(lambda: "PACS" not in empty.window.nodes._testing)


def test_tls_of_this_computer_asks_for_its_certificate_beside_the_field(empty: Hands) -> None:
    wizard = begin(empty, "this-computer", "Here")
    form = wizard.fields_page.form
    assert form is not None
    tls = form.editors["tls"].main
    assert isinstance(tls, QCheckBox)
    tls.setChecked(True)
    empty.click(wizard.next)
    assert form.editors["certificate"].problem.text() == "TLS needs a certificate of this computer's own."
    wizard.reject()


def test_listening_is_not_green_without_an_engine_or_after_what_came_later() -> None:
    now = datetime.now(UTC)
    record = NodeRecord(name="Inbox", kind="x")
    good = Profile(now, (DiagnosisStep("Takes calls", StepResult.OK),), (("listening", "yes"),))
    bad = Profile(now, (DiagnosisStep("Takes calls", StepResult.FAILED),))
    heard = NodeChanged("Inbox", NodeHealth.WORKS, now + timedelta(seconds=5))
    down = NodeChanged("Inbox", NodeHealth.DOWN, now, "Port 11112 is taken.")

    def verdict(profile: Profile | None, health: NodeChanged | None, *, engine: bool) -> str:
        return NodeLine(record, "This computer", "computer", "", profile, health, True, engine).verdict[0]

    assert verdict(good, None, engine=True) == "Listening"
    assert verdict(good, None, engine=False) == "Not listening now"
    assert verdict(None, heard, engine=True) == "Listening"
    assert verdict(bad, None, engine=True) == "Doesn't work"
    assert verdict(bad, heard, engine=True) == "Listening", "the engine has seen it work since"
    assert verdict(good, down, engine=True) == "Not listening"
