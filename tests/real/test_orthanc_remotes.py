"""The modalities, peers and DICOMweb servers of real Orthancs: listed, changed, tested; our own nodes added."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.app import App
from core.model.errors import ConfigurationError, FerryError, NotSupportedError
from core.model.remotes import RemoteKind
from core.secrets import variable_name
from tests.conftest import OrthancPair
from tests.faults.crossing import command, says
from tests.faults.crossing import words as words_of
from tests.support import raw_http
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import ORTHANC_VERSIONS

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]
VERSIONS = pytest.mark.parametrize("version", ORTHANC_VERSIONS)
MODALITY, PEER, DICOMWEB = RemoteKind.MODALITY, RemoteKind.PEER, RemoteKind.DICOMWEB


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App.open(tmp_path / "home")
    yield made
    made.close()


def shown(app: App, name: str = "MRI") -> dict[tuple[str, str], str]:
    """What a list shows: kind and name, and where it is."""
    return {(e.kind.value, e.name): e.where for e in app.remotes.listing(name).entries}


@VERSIONS
def test_entries_come_and_go(version: str, app: App, start_orthanc: Start) -> None:
    server = start_orthanc(version, dicomweb=True)
    app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    remotes = app.remotes
    assert remotes.has_lists("MRI")
    assert remotes.listing("MRI").kinds == (MODALITY, PEER, DICOMWEB)
    modality = {"name": "west", "aet": "WEST", "host": "w.lan", "port": 11112, "allow_store": False, "timeout": 7}
    remotes.add("MRI", MODALITY, modality, {})
    remotes.add("MRI", PEER, {"name": "p", "url": "http://p.lan:8042", "username": "ada"}, {"password": "pa55"})
    web = {"name": "w", "url": "https://w.lan/dw", "header_name": "X-Key", "has_delete": True, "timeout": 90}
    remotes.add("MRI", DICOMWEB, web, {"header_value": "k3y"})
    assert shown(app) == {
        ("modality", "west"): "WEST at w.lan:11112",
        ("peer", "p"): "http://p.lan:8042/",
        ("dicomweb-server", "w"): "https://w.lan/dw/",
    }
    entries = {e.name: e for e in remotes.listing("MRI").entries}
    assert (entries["west"].fields["allow_store"], entries["west"].fields["timeout"]) == (False, 7)
    assert (entries["p"].untold, entries["w"].untold) == (("password",), ("header_value",))
    assert (entries["w"].fields["has_delete"], entries["w"].fields["timeout"]) == (True, 90)
    assert "pa55" not in repr(entries)
    with pytest.raises(ConfigurationError, match="knows a peer “p” already"):
        remotes.add("MRI", PEER, {"name": "p", "url": "http://q.lan"}, {})
    assert remotes.remove("MRI", PEER, "p")
    assert not remotes.remove("MRI", PEER, "p")
    assert remotes.remove("MRI", DICOMWEB, "w")
    assert remotes.remove("MRI", MODALITY, "west")
    assert shown(app) == {}


@VERSIONS
def test_a_change_keeps_what_it_does_not_name(version: str, app: App, start_orthanc: Start) -> None:
    server = start_orthanc(version)
    app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    server.put("/peers/p", {"Url": "http://a/", "Username": "ada", "Password": "old", "RemoteSelf": "me", "Timeout": 5})
    server.put("/modalities/m", {"AET": "M", "Host": "h", "Port": 104, "AllowFind": False, "LocalAet": "US"})
    remotes = app.remotes
    with pytest.raises(ConfigurationError, match="password of “p” is missing"):
        remotes.edit("MRI", PEER, "p", {"url": "http://b/"}, {})
    remotes.edit("MRI", PEER, "p", {"url": "http://b/"}, {"password": "new"})
    found = server.get("/peers/p/configuration")
    assert (found["Url"], found["Username"], found["Timeout"], found["RemoteSelf"]) == ("http://b/", "ada", 5, "me")
    remotes.edit("MRI", MODALITY, "m", {"host": "other"}, {})
    found = server.get("/modalities/m/configuration")
    assert (found["Host"], found["AllowFind"], found["LocalAet"], found["AET"]) == ("other", False, "US", "M")
    server.put("/peers/two", {"Url": "http://a/", "HttpHeaders": {"A": "1", "B": "2"}})
    assert "several extra headers" in remotes.entry("MRI", PEER, "two").fixed
    with pytest.raises(ConfigurationError, match="several extra headers"):
        remotes.edit("MRI", PEER, "two", {"url": "http://c/"}, {"header_value": "x"})
    with pytest.raises(ConfigurationError, match="It knows: p, two"):
        remotes.edit("MRI", PEER, "three", {}, {})


@VERSIONS
def test_what_can_not_be_is_said(version: str, app: App, start_orthanc: Start) -> None:
    server = start_orthanc(version)
    app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    app.nodes.add("folder", "DISK", {"path": str(server.folder)}, {})
    remotes = app.remotes
    assert remotes.listing("MRI").kinds == (MODALITY, PEER)  # no plugin
    with pytest.raises(NotSupportedError, match="keeps no lists"):
        remotes.listing("DISK")
    assert not remotes.has_lists("DISK")
    with pytest.raises(NotSupportedError, match="“MRI” has no DICOMweb plugin"):
        remotes.add("MRI", DICOMWEB, {"name": "w", "url": "https://w.lan/dw"}, {})
    for kind, fields, said in (
        (MODALITY, {"name": "m", "aet": "A" * 17, "host": "h"}, "AE title"),
        (MODALITY, {"name": "a b", "aet": "A", "host": "h"}, "Name there"),
        (MODALITY, {"name": "m", "aet": "A", "host": "h", "port": 70000}, "Port"),
        (MODALITY, {"name": "m", "aet": "A", "host": "h", "manufacturer": "Foo"}, "does not take this modality"),
        (PEER, {"name": "p", "url": "ftp://x"}, "Address"),
        (PEER, {"name": "p", "url": "http://ada:pa55@x/"}, "Address"),
        (PEER, {"name": "p", "url": "http://x/", "username": "ada"}, "password of “p” is missing"),
        (PEER, {"name": "p", "url": "http://x/", "certificate_file": "/no/file"}, "does not take this peer"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            remotes.add("MRI", kind, fields, {})
        assert said in str(raised.value)
        assert "pa55" not in str(raised.value)
    assert shown(app) == {}


def test_a_server_that_lets_nobody_change_it(app: App, start_orthanc: Start, fault_proxy: Before) -> None:
    server = start_orthanc("1.12", dicomweb=True)
    proxy = fault_proxy(server)
    app.nodes.add("orthanc", "MRI", {"url": proxy.url}, {})
    proxy.answer(403, r"(PUT|DELETE) ")
    with pytest.raises(ConfigurationError) as raised:
        app.remotes.add("MRI", PEER, {"name": "p", "url": "http://x/", "username": "ada"}, {"password": "pa55"})
    assert raised.value.sentence == "“MRI” does not let this user change its peers."
    for part in ('"OrthancPeers": {', '"Url": "http://x/"', '"Password": "…"', "OrthancPeersInDatabase"):
        assert part in raised.value.detail
    assert "pa55" not in raised.value.detail
    proxy.answer(403, r"GET /peers")
    listed = app.remotes.listing("MRI")
    assert listed.kinds == (MODALITY, DICOMWEB)
    assert listed.refused == "“MRI” does not let this user see its peers."


def test_what_to_tell_the_administrator(app: App, start_orthanc: Start) -> None:
    app.nodes.add("orthanc", "MRI", {"url": start_orthanc("1.12").url}, {})
    told = app.remotes.text("MRI", MODALITY, {"name": "m", "aet": "A", "host": "h"})
    assert '"DicomModalities": {\n    "m": {\n      "AET": "A"' in told
    assert "DicomModalitiesInDatabase" in told
    told = app.remotes.text("MRI", DICOMWEB, {"name": "w", "url": "https://x/dw", "header_name": "X-Key"})
    assert '"DicomWeb": {\n    "Servers": {' in told
    assert '"X-Key": "…"' in told
    assert "ServersInDatabase" in told


@VERSIONS
def test_the_server_tries_them(version: str, app: App, start_orthanc: Start, tmp_path: Path) -> None:
    other = start_orthanc(version, name="OTHER", dicomweb=True, users={"ada": "secret"})
    server = start_orthanc(version, dicomweb=True)
    app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    remotes = app.remotes

    def found(kind: RemoteKind, **fields: object) -> str:
        secrets = {"password": str(fields.pop("password"))} if "password" in fields else {}
        remotes.add("MRI", kind, {"name": "x", **fields}, secrets)  # type: ignore[dict-item]
        try:
            return remotes.test("MRI", kind, "x")
        except FerryError as error:
            return f"{error} [{type(error).__name__}]"
        finally:
            remotes.remove("MRI", kind, "x")

    with (
        QueryRetrieveServer(tmp_path / "q") as pacs,
        raw_http.RawServer(lambda peer: (peer.head(), peer.answer(b"<html>"))) as page,
    ):
        assert found(MODALITY, aet="QRSCP", host="127.0.0.1", port=pacs.port) == "It answers the echo (C-ECHO)."
        assert "does not let" not in found(MODALITY, aet="QRSCP", host="127.0.0.1", port=1)
        assert "can't reach “x”: nothing listens" in found(MODALITY, aet="QRSCP", host="127.0.0.1", port=1)
        assert "is Orthanc 1." in found(PEER, url=other.url, username="ada", password="secret")
        assert "answers “MRI”, but refuses" in found(PEER, url=other.url, username="ada", password="wrong")
        assert "is no Orthanc" in found(PEER, url=page.url)
        assert "nothing listens" in found(PEER, url="http://127.0.0.1:1")
        assert "host name is not found" in found(PEER, url="http://nowhere.invalid")
        good = found(DICOMWEB, url=other.dicomweb_url, username="ada", password="secret")
        assert good == "It lets “MRI” in, and answers a query (QIDO-RS)."
        assert "is no DICOMweb service" in found(DICOMWEB, url=page.url)
        assert "is not let in by the DICOMweb server “x”" in found(DICOMWEB, url=other.dicomweb_url)
        assert "answers “MRI”, but refuses" in found(DICOMWEB, url=other.url, username="ada", password="secret")
        assert "does not reach the DICOMweb server “x”" in found(DICOMWEB, url="http://127.0.0.1:1/dw")
    with pytest.raises(ConfigurationError, match="knows no peer “x”"):
        remotes.test("MRI", PEER, "x")


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10", "1.10>1.12"], indirect=True)
def test_our_own_nodes_are_added_and_recognised(
    orthanc_pair: OrthancPair, app: App, start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = orthanc_pair.source
    target = start_orthanc(orthanc_pair.destination.version, name="WEST", dicomweb=True, users={"ada": "secret"})
    monkeypatch.setenv(variable_name("PACS West", "password"), "secret")
    app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    app.nodes.add("orthanc", "PACS West", {"url": target.url, "username": "ada"}, {})
    app.nodes.add("orthanc", "Gone", {"url": "http://127.0.0.1:1"}, {})
    app.nodes.add("folder", "DISK", {"path": str(tmp_path)}, {})
    with QueryRetrieveServer(tmp_path / "q") as pacs:
        app.nodes.add("dicom", "East", {"aet": "QRSCP", "host": "127.0.0.1", "port": pacs.port}, {})
        drafts = {(d.node, d.kind): d for d in app.remotes.drafts("MRI")}
        assert set(drafts) == {
            ("PACS West", PEER),
            ("PACS West", DICOMWEB),
            ("East", MODALITY),
            ("Gone", PEER),
        }
        assert drafts["PACS West", PEER].fields["name"] == "PACS-West"
        assert any("are handed to “MRI”" in doubt for doubt in drafts["PACS West", PEER].doubts)
        for key in (("PACS West", PEER), ("PACS West", DICOMWEB), ("East", MODALITY)):
            app.remotes.add_draft("MRI", drafts[key])
        listed = app.remotes.listing("MRI").entries
        assert {(e.kind, e.node) for e in listed} == {
            (PEER, "PACS West"),
            (DICOMWEB, "PACS West"),
            (MODALITY, "East"),
        }
        for entry in listed:
            assert app.remotes.test("MRI", entry.kind, entry.name)
        assert {(d.node, d.kind) for d in app.remotes.drafts("MRI")} == {("Gone", PEER)}
    assert server.get("/peers/PACS-West/configuration")["Username"] == "ada"


def test_a_node_without_dicomweb_is_recognised(app: App, orthanc_pair: OrthancPair) -> None:
    server, other = orthanc_pair.source, orthanc_pair.destination
    app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
    app.nodes.add("orthanc", "Archive", {"url": other.url}, {})
    server.put("/peers/archive", {"Url": other.url})
    server.put("/modalities/archive", {"AET": other.aet, "Host": "127.0.0.1", "Port": other.dicom_port})
    found = {(e.kind, e.node) for e in app.remotes.listing("MRI").entries}
    assert found == {(PEER, "Archive"), (MODALITY, "Archive")}


# --- on the command line


@VERSIONS
def test_from_the_command_line(
    version: str, start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_orthanc(version, dicomweb=True)
    west = start_orthanc(version, name="WEST", dicomweb=True, users={"ada": "secret"})
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable_name("West", "password"), "secret")
    command("node", "add", "orthanc", "MRI", "--url", server.url).expect()
    command("node", "add", "orthanc", "West", "--url", west.url, "--username", "ada").expect()
    remote = ("node", "remote")
    monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
    words = (*remote, "add", "peer", "MRI", "w", "--url", west.url, "--username", "ada", "--secret-stdin", "password")
    says(command(*words).expect(), "MRI knows the peer w now.", "OrthancPeersInDatabase")
    says(command(*remote, "test", "peer", "MRI", "w").expect(1), "answers “MRI”, but refuses", "Check user name")
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))
    command(*remote, "edit", "peer", "MRI", "w", "--secret-stdin", "password").expect()
    says(command(*remote, "test", "peer", "MRI", "w").expect(), "It lets “MRI” in")
    listed = command(*remote, "list", "MRI", "--json").expect().events
    assert [(e["kind"], e["name"], e["node"], e["untold"]) for e in listed] == [("peer", "w", "West", ["password"])]
    says(command(*remote, "tell", "peer", "MRI", "w").expect(), '"OrthancPeers": {', '"Password": "…"')
    says(command(*remote, "add-node", "MRI", "West", "--as", "peer").expect(2), "knows West already: peer w.")
    says(command(*remote, "add-node", "MRI", "West").expect(), "as the DICOMweb server West", "handed to “MRI”")
    says(command(*remote, "add-node", "MRI", "West").expect(2), "knows West already: peer w, DICOMweb server West.")
    says(command(*remote, "list", "MRI").expect(), "DICOMweb server", "West")
    command(*remote, "remove", "peer", "MRI", "w").expect()
    says(command(*remote, "remove", "peer", "MRI", "w").expect(2), "knows no peer “w”")
    says(command(*remote, "edit", "peer", "MRI", "w").expect(2), "Nothing was said about what to change")
    says(command(*remote, "list", "nobody").expect(2), "There is no node “nobody”")
    says(command(*remote, "add", "peer", "MRI", "x", "--url", "http://x", "--password", "p").expect(2), "never taken")
    told = command(*remote, "list", "MRI", "--json")
    assert "secret" not in words_of(told).replace("--secret-stdin", "")
