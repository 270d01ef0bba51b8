"""From the first start to the proof: what a person clicks, on real Orthanc servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from core.model.job import JobState
from gui.models.deliveries import method_text
from gui.widgets.node_checks import NodeChecks
from tests.gui.hands import Hands
from tests.real.test_orthanc_node_diagnosis import make_certificate, tls_front
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]


def test_a_newcomer_adds_two_servers_sends_a_study_and_reads_the_proof(
    empty: Hands, start_orthanc: Start, tmp_path: Path
) -> None:
    source = start_orthanc("1.10", users={"ferry": "secret"})
    destination = start_orthanc("1.12")
    source.upload(make_study(instances=12))
    hands, window = empty, empty.window
    assert window.page.name == "home"
    hands.wait(lambda: "Add the server your studies come from" in hands.read(window.home))
    hands.press(window.home, "Add node…")
    hands.wait(lambda: window.page.name == "nodes" and window.nodes.wizard is not None)
    assert window.nodes.wizard is not None
    window.nodes.wizard.reject()
    hands.add_orthanc("CT 2", source.url, user="ferry", password="secret")
    hands.add_orthanc("Archive", destination.url)
    hands.wait(lambda: [n.verdict[0] for n in window.nodes.model.records] == ["Works", "Works"])

    wizard = hands.start_transfer("CT 2", "Archive")
    assert "1 study · 12 images" in wizard.summary.counts.text()
    hands.finish(wizard)
    hands.wait(lambda: hands.states() == ["Confirmed"])
    assert destination.digests() == source.digests()

    window.transfers.table.selectRow(0)
    detail = window.transfers.detail
    hands.wait(lambda: "Confirmed by digest" in [p.text for p in detail.findChildren(type(window.jobs.pill))])
    hands.click(detail.images_tab)
    hands.wait(lambda: detail.images.rowCount() == 12)
    assert {method_text(r) for r in detail.images.records} == {"by digest"}
    assert {r.evidence.digest for r in detail.images.records if r.evidence} == set(source.digests().values())

    file = tmp_path / "proof.json"
    detail.proof.export("json", file)
    hands.wait(lambda: "The proof is written." in window.banner.lead)
    assert json.loads(file.read_text(encoding="utf-8"))
    hands.wait(lambda: window.status.safe.text() == "Safe to shut down? Yes")


def test_a_wrong_password_names_the_step_and_what_to_do(empty: Hands, start_orthanc: Start) -> None:
    server = start_orthanc("1.12", users={"ferry": "secret"})
    wizard = empty.add_orthanc("CT", server.url, user="ferry", password="wrong", expect="Login accepted", save=False)
    line = next(x for x in wizard.test_page.list.lines if x.step.name == "Login accepted")
    assert line.step.next_step
    empty.wait(lambda: line.step.next_step in empty.read(line))
    assert line.copy is not None
    assert "Login accepted" in line.copy.copied_text
    assert "wrong" not in line.copy.copied_text.replace("wrong user", "").replace("is wrong", "")
    # It may be saved all the same, and is then shown as what it is.
    empty.save(wizard, "CT")
    empty.wait(lambda: [n.verdict[0] for n in empty.window.nodes.model.records] == ["Doesn't work"])
    record = empty.app.nodes.get("CT")
    again = empty.window.nodes.open_wizard(record)
    form = again.fields_page.form
    assert form is not None
    empty.type(form.editors["password"].main, "secret")
    empty.click(again.next)
    empty.wait(lambda: not again.test_page.running)
    assert "It works" in again.test_page.verdict.lead
    empty.save(again, "CT")
    empty.wait(lambda: [n.verdict[0] for n in empty.window.nodes.model.records] == ["Works"])


def test_a_path_of_its_own_is_chosen_where_there_are_several_destinations(empty: Hands, start_orthanc: Start) -> None:
    east, west = start_orthanc("1.12"), start_orthanc("1.12")
    source = start_orthanc("1.12", config={"OrthancPeers": {"east": [east.url], "west": [west.url]}})
    source.upload(make_study(instances=4))
    for name, server in (("A", source), ("East", east), ("West", west)):
        empty.app.nodes.add("orthanc", name, {"url": server.url}, {})
    wizard = empty.window.new_transfer()
    empty.click(wizard.kind_page.choices["forward"])
    empty.click(wizard.next)
    route = wizard.route
    empty.wait(lambda: "West" in route.destinations.checks)
    for side, chosen in ((route.sources, {"A"}), (route.destinations, {"East"})):
        for name, check in side.checks.items():
            check.setChecked(name in chosen)
    while wizard.page is not wizard.when:
        empty.click(wizard.next)
    options = wizard.when.options
    assert options is not None
    empty.click(options.more)
    by_server = options.editors["push_to"]
    assert not by_server.isVisible(), "there is nothing to tell apart"
    while wizard.page is not route:
        empty.click(wizard.back)
    route.destinations.checks["West"].setChecked(True)
    while wizard.page is not wizard.when:
        empty.click(wizard.next)
    empty.wait(by_server.isVisible)
    assert isinstance(by_server.main, NodeChecks)
    assert list(by_server.main.boxes) == ["East", "West"]
    by_server.main.boxes["West"].click()
    while wizard.page is not wizard.summary:
        empty.click(wizard.next)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed", "Confirmed"])
    paths = {row.destination: row.path for row in empty.app.ledger.deliveries(job_id=1)}
    assert paths == {"East": "relay", "West": "push"}
    assert east.digests() == west.digests() == source.digests()


def test_a_move_asks_for_its_words_and_empties_the_source(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    source.upload(make_study(instances=5))
    empty.add_orthanc("A", source.url)
    empty.add_orthanc("B", destination.url)
    wizard = empty.start_transfer("A", "B", move=True)
    assert not wizard.next.isEnabled()
    assert "Delete 5 images at A, each once it is confirmed" in empty.read(wizard)
    wizard.summary.understood.setChecked(True)
    empty.finish(wizard)
    empty.wait(lambda: empty.states() == ["Confirmed"])
    empty.wait(lambda: source.count() == 0)
    assert destination.count() == 5


def test_clone_then_start_again_finds_everything_there(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    source.upload(make_study(instances=4))
    empty.add_orthanc("A", source.url)
    empty.add_orthanc("B", destination.url)
    empty.finish(empty.start_transfer("A", "B", kind="clone"))
    empty.wait(lambda: empty.states() == ["Confirmed"])
    empty.go("jobs")
    jobs = empty.window.jobs
    empty.wait(lambda: jobs.chosen() is not None and jobs.chosen().state is JobState.FINISHED)
    empty.press(jobs.panel, "Start again")
    empty.go("transfers")
    empty.wait(lambda: empty.states() == ["Already there"])
    assert destination.received_count() == 4


def test_a_destination_that_is_down_is_a_sentence_and_trying_again_mends_it(empty: Hands, start_orthanc: Start) -> None:
    source, destination = start_orthanc("1.12"), start_orthanc("1.12")
    source.upload(make_study(instances=3))
    empty.add_orthanc("A", source.url)
    empty.add_orthanc("B", destination.url)
    destination.stop()
    wizard = empty.start_transfer("A", "B")
    assert "You can start it all the same" in empty.read(wizard)
    assert wizard.next.isEnabled()
    empty.finish(wizard)
    empty.wait(lambda: empty.session.health_of("B").value == "down")
    empty.go("nodes")
    empty.wait(lambda: "Unreachable" in [n.verdict[0] for n in empty.window.nodes.model.records])
    destination.start()
    empty.go("transfers")
    empty.wait(lambda: empty.states() == ["Confirmed"])


def test_a_certificate_can_be_trusted_for_this_node(empty: Hands, start_orthanc: Start, tmp_path: Path) -> None:
    with tls_front(start_orthanc("1.12"), make_certificate(tmp_path, "localhost")) as url:
        wizard = empty.add_orthanc("S", url, expect="Certificate trusted", save=False)
        empty.press(wizard, "Trust this certificate for this node")
        empty.wait(lambda: not wizard.test_page.running and "It works" in wizard.test_page.verdict.lead)
        empty.save(wizard, "S")
        empty.wait(lambda: [n.verdict[0] for n in empty.window.nodes.model.records] == ["Works"])
    assert len(str(empty.app.nodes.get("S").fields["pinned_certificate"])) >= 64


def test_a_saved_password_is_kept_replaced_and_forgotten(empty: Hands, start_orthanc: Start) -> None:
    server = start_orthanc("1.12", users={"ferry": "secret"})
    empty.add_orthanc("CT", server.url, user="ferry", password="secret")
    assert "secret" not in str(empty.app.nodes.get("CT"))
    wizard = empty.window.nodes.open_wizard(empty.app.nodes.get("CT"))
    form = wizard.fields_page.form
    assert form is not None
    forget = form.editors["password"].forget
    assert forget is not None
    empty.wait(forget.isVisible)
    empty.click(wizard.next)
    empty.wait(lambda: not wizard.test_page.running)
    assert "It works" in wizard.test_page.verdict.lead, "the kept password is used"
    empty.click(wizard.back)
    empty.click(forget)
    empty.click(wizard.next)
    empty.wait(lambda: not wizard.test_page.running)
    assert "Login accepted" in wizard.test_page.verdict.lead
    empty.save(wizard, "CT")
    assert not empty.app.nodes.has_secret("CT", "password")
