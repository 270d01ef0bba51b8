"""“All modalities” of an Orthanc chosen in the window, on real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.model.views import TransferFilter
from tests.gui.hands import Hands
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]
ALL = "MRI: all modalities"


def test_all_modalities_are_chosen_seen_and_sent_to(empty: Hands, start_orthanc: Start, tmp_path: Path) -> None:
    server = start_orthanc("1.12", name="MRI")
    server.upload(make_study(instances=1))  # dcmqrscp gives files that come at once the same name
    empty.app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    empty.app.nodes.add("folder", "Disk", {"path": str(tmp_path)}, {})
    with QueryRetrieveServer(tmp_path / "qrscp", aet="WEST") as pacs:
        server.put("/modalities/west", {"AET": "WEST", "Host": "127.0.0.1", "Port": pacs.port})
        wizard = empty.window.new_transfer()
        empty.click(wizard.kind_page.choices["forward"])
        empty.click(wizard.next)
        route = wizard.route
        empty.wait(lambda: ALL in route.destinations.checks)
        everyone = route.destinations.checks[ALL]
        route.sources.checks["MRI"].setChecked(False)
        empty.wait(lambda: not everyone.isVisible())
        route.sources.checks["MRI"].click()
        empty.wait(everyone.isVisible)
        for check in route.destinations.checks.values():
            check.setChecked(check is everyone)
        empty.wait(lambda: route.destinations.answers[ALL].text() == "Now: west (MRI) (becomes a node).")
        empty.click(wizard.next)
        while wizard.page is not wizard.summary:
            empty.click(wizard.next)
        empty.wait(lambda: not wizard.summary.counting)
        assert "1 study · 1 image" in wizard.summary.counts.text()
        empty.wait(lambda: ALL in empty.read(wizard.summary))
        empty.finish(wizard)
        empty.wait(lambda: empty.states() == ["Confirmed"])
        assert pacs.stored()
    assert [row.destination for row in empty.app.ledger.transfers(TransferFilter())] == ["west (MRI)"]
    assert "west (MRI)" in [n.record.name for n in empty.window.nodes.model.records]
