"""What an Orthanc sends to, in the window: seen, added, tested, changed and removed against real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import JsonValue
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QCheckBox

from core.model.remotes import RemoteKind
from core.secrets import variable_name
from gui.widgets.node_checks import NodeChecks
from gui.widgets.remotes import RemotesView
from gui.wizards.remote_entry import RemoteWizard
from tests.gui.hands import Hands
from tests.gui.test_nodes_dicom import begin, choose
from tests.support.azure_nodes import azure_fields
from tests.support.azure_service import AzureService
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.servers import ORTHANC_VERSIONS

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]
PEER, DICOMWEB, MODALITY = RemoteKind.PEER, RemoteKind.DICOMWEB, RemoteKind.MODALITY


def look(hands: Hands, server: str) -> RemotesView:
    """The lists of a server, as they are clicked up."""
    hands.go("nodes")
    hands.wait(lambda: hands.window.nodes.model.row_of(server) is not None)
    choose(hands, server)
    hands.click(hands.window.nodes.sends_tab)
    view = hands.window.nodes.remotes
    hands.wait(lambda: view.other.isEnabled() or view.banner.isVisible())
    return view


def open_wizard(hands: Hands, view: RemotesView) -> RemoteWizard:
    hands.wait(lambda: view.wizard is not None and view.wizard.isVisible())
    assert view.wizard is not None
    return view.wizard


def fill(hands: Hands, wizard: RemoteWizard, **fields: str) -> None:
    form = wizard.fields_page.form
    assert form is not None
    for name, text in fields.items():
        edit = form.editors[name].main
        edit.setFocus()
        edit.clear()  # type: ignore[attr-defined]
        hands.type(edit, text)


def verdict(hands: Hands, view: RemotesView, kind: RemoteKind, name: str) -> str:
    """What the test of an entry found, once it is over."""

    def over() -> bool:
        line = view.lines.get((kind, name))
        return line is not None and line.verdict.text not in ("", "Testing…")

    hands.wait(over)
    return view.lines[kind, name].verdict.text


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_our_nodes_are_added_in_two_clicks(
    version: str, empty: Hands, start_orthanc: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_orthanc(version, dicomweb=True)
    west = start_orthanc(version, name="WEST", dicomweb=True, users={"ada": "secret"})
    monkeypatch.setenv(variable_name("PACS West", "password"), "secret")
    empty.app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    empty.app.nodes.add("orthanc", "PACS West", {"url": west.url, "username": "ada"}, {})
    empty.session.nodes_edited.emit()
    view = look(empty, "MRI")
    empty.wait(lambda: "Peers: none" in empty.read(view))
    empty.wait(lambda: "OrthancPeersInDatabase" in empty.read(view))
    empty.click(view.ours)
    empty.wait(lambda: len(view.drafts) == 2)
    empty.wait(lambda: "are handed to “MRI”" in empty.read(view))
    empty.press(view, "Add PACS West as a peer")
    assert verdict(empty, view, PEER, "PACS-West") == "Works"
    empty.wait(lambda: "It lets “MRI” in; it is Orthanc 1." in empty.read(view))
    assert empty.window.nodes.sends_tab.text() == "Sends to (1)"
    assert server.get("/peers/PACS-West/configuration")["Username"] == "ada"
    assert "secret" not in empty.read(view)


def test_an_entry_is_added_corrected_and_removed(empty: Hands, start_orthanc: Start) -> None:
    server = start_orthanc("1.12", dicomweb=True)
    west = start_orthanc("1.12", name="WEST", dicomweb=True, users={"ada": "secret"})
    empty.app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    empty.session.nodes_edited.emit()
    view = look(empty, "MRI")
    empty.click(view.other)
    wizard = open_wizard(empty, view)
    empty.click(wizard.kind_page.choices[DICOMWEB])
    empty.click(wizard.next)
    fill(empty, wizard, name="a b", url=west.dicomweb_url, username="ada", password="wrong")
    empty.click(wizard.next)
    assert "use letters, digits" in empty.read(wizard).lower()
    fill(empty, wizard, name="west")
    empty.click(wizard.next)
    assert verdict(empty, view, DICOMWEB, "west") == "Doesn't work"
    empty.wait(lambda: "is not let in by the DICOMweb server “west”" in empty.read(view))
    before = view.lines[DICOMWEB, "west"]
    empty.click(before.edit)
    empty.wait(lambda: view.wizard is not wizard)
    wizard = open_wizard(empty, view)
    empty.wait(lambda: "does not tell its password" in empty.read(wizard))
    empty.click(wizard.next)
    empty.wait(lambda: "The password of “west” is missing." in wizard.banner.lead)
    fill(empty, wizard, password="secret")
    empty.click(wizard.next)
    empty.wait(lambda: view.lines.get((DICOMWEB, "west")) not in (None, before))
    assert verdict(empty, view, DICOMWEB, "west") == "Works"
    empty.press(view, "Copy for the administrator")
    copied = QGuiApplication.clipboard().text()
    assert '"Servers": {' in copied
    assert '"Password": "…"' in copied
    empty.click(view.lines[DICOMWEB, "west"].remove)
    empty.answer("Remove")
    empty.wait(lambda: not view.lines and "DICOMweb servers: none" in empty.read(view))
    assert server.get("/dicom-web/servers") == []


def test_a_server_that_lets_nobody_change_it(empty: Hands, start_orthanc: Start, fault_proxy: Before) -> None:
    server = start_orthanc("1.12")
    proxy = fault_proxy(server)
    proxy.answer(403, r"PUT ")
    empty.app.nodes.add("orthanc", "MRI", {"url": proxy.url}, {})
    empty.session.nodes_edited.emit()
    view = look(empty, "MRI")
    empty.click(view.other)
    wizard = open_wizard(empty, view)
    assert DICOMWEB not in wizard.kind_page.choices  # no plugin
    empty.click(wizard.kind_page.choices[MODALITY])
    empty.click(wizard.next)
    fill(empty, wizard, name="pacs", aet="PACS", host="pacs.lan")
    empty.click(wizard.next)
    empty.wait(lambda: wizard.banner.lead)
    assert wizard.banner.lead == "“MRI” does not let this user change its modalities."
    empty.press(wizard, "Copy details")
    assert '"DicomModalities": {' in QGuiApplication.clipboard().text()
    wizard.reject()
    assert server.get("/modalities") == []


def test_a_server_that_does_not_answer(empty: Hands) -> None:
    empty.app.nodes.add("orthanc", "MRI", {"url": "http://127.0.0.1:1"}, {})
    empty.session.nodes_edited.emit()
    view = look(empty, "MRI")
    empty.wait(lambda: view.banner.lead)
    assert view.banner.lead == "Nothing answers at 127.0.0.1:1: the connection was refused."
    assert not view.ours.isEnabled()


def test_an_address_that_means_another_computer_there_is_asked_for(empty: Hands, start_orthanc: Start) -> None:
    """From the form; a server that is not on this computer is needed for that, so the draft is made by hand."""
    from core.model.remotes import RemoteDraft

    server = start_orthanc("1.12")
    empty.app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    empty.session.nodes_edited.emit()
    view = look(empty, "MRI")
    fields: dict[str, JsonValue] = {"name": "Here", "aet": "FERRY", "host": "localhost", "port": 11112}
    doubt = "“localhost” is this computer"
    view._show_drafts([RemoteDraft(MODALITY, "Here", fields, (), (doubt,), elsewhere=True)])
    empty.press(view, "Add Here as a modality")
    wizard = open_wizard(empty, view)
    empty.wait(lambda: doubt in empty.read(wizard))
    fill(empty, wizard, host="127.0.0.1")
    empty.click(wizard.next)
    assert verdict(empty, view, MODALITY, "Here") == "Doesn't work"
    assert server.get("/modalities/Here/configuration")["Host"] == "127.0.0.1"


def test_a_token_is_lent_where_the_entry_is(
    empty: Hands, start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AzureService(tmp_path / "azure") as service:
        server = start_orthanc("1.12", dicomweb=True)
        monkeypatch.setenv(variable_name("Cloud", "client_secret"), service.secret)
        empty.app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
        empty.app.nodes.add("azure", "Cloud", azure_fields(service), {})
        empty.session.nodes_edited.emit()
        view = look(empty, "MRI")
        empty.click(view.ours)
        empty.wait(lambda: "Cloud lets in by a token only" in empty.read(view))
        empty.press(view, "Add Cloud as a DICOMweb server")
        key = (DICOMWEB, "Cloud")
        assert verdict(empty, view, *key) == "Doesn't work"  # the server itself has no token
        line = view.lines[key]
        assert not line.lend.isChecked()
        assert "Careful: who runs that server could use it" in empty.read(line)
        line.lend.click()
        empty.wait(lambda: key in view.lines and view.lines[key] is not line and view.lines[key].lend.isChecked())
        assert empty.app.nodes.get("Cloud").fields["lend_to"] == ["MRI"]
        assert not view.banner.isVisible()
        assert verdict(empty, view, *key) == "Works", empty.read(view)  # our token goes along with the test as well
        line = view.lines[key]
        line.lend.click()
        empty.wait(lambda: key in view.lines and view.lines[key] is not line and not view.lines[key].lend.isChecked())
        assert not empty.app.nodes.get("Cloud").fields.get("lend_to")


def test_a_token_is_lent_to_servers_that_are_ticked(empty: Hands, start_orthanc: Start) -> None:
    empty.app.nodes.add("orthanc", "MRI", {"url": "http://127.0.0.1:1"}, {})
    empty.app.nodes.add("orthanc", "CT", {"url": "http://127.0.0.1:2"}, {})
    empty.session.nodes_edited.emit()
    empty.go("nodes")
    wizard = begin(empty, "dicomweb", "CLOUD")
    form = wizard.fields_page.form
    assert form is not None
    form.more.setChecked(True)
    checks = form.editors["lend_to"].main
    assert isinstance(checks, NodeChecks)
    assert not checks.isVisible()  # it has no tokens to lend yet
    empty.type(form.editors["oauth_url"].main, "https://login.example.org/token")
    empty.wait(lambda: set(checks.boxes) == {"CT", "MRI"})
    empty.wait(lambda: "Careful: who runs such a server could use the token" in empty.read(wizard))
    box = checks.boxes["MRI"]
    assert isinstance(box, QCheckBox)
    box.click()
    assert form.values()["lend_to"] == ["MRI"]
    wizard.reject()
